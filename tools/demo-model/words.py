# SPDX-License-Identifier: Apache-2.0
"""The words that are printed in pictures, and the colours, shapes and charts' labels that are talked about."""

WORDS = """
able acid also apple area army away baby back ball band bank barn base bath beach bear bell bird blood blow board boat body
bone book boot bowl bread brick bridge bus cafe cake call camp car card care cart cat chair chalk cheese chess city class
clean clock cloud club coal coast coat code coffee coin cold cook copper corn cost cow cream crop crowd cup dance dark data
day deal deer desk dish dock doctor dog door down draw dream dress drink drive drum duck dust ear earth east easy echo edge
egg engine enter exit eye face fair fall farm fast field film fire fish flag flat floor flour flower foam fog food foot
forest fork fox free frog fruit fuel game garden gas gate giant gift girl glass gold good grape grass guest hair hall hand
harbor hat heat help herb hill home honey hook hope horse hotel hour house ice idea ink iron island jacket jam jazz jeep
jelly joke judge juice jump jury key kind king kiosk kite knee knife lake lamp land laser leaf lemon letter level light lime
lion list loaf lock luck lunch magic mail map market mask match meal metal milk mind mint model moon mouse music nail name
nest net night noise north nose note nurse oak ocean office olive onion open orbit oven owl oxen page paint palace paper
park party path peach pear pen phone piano pie pilot pin pizza plan plate play plum poem point pool post price prize pump
quarry queen quick quiet quiz rabbit radio rain ranch rice ride right river road robot rock roof room root rope rose royal
ruby safe sail salad salt sand scale school sea seat seed sell ship shoe shop silk silver sister size sky slow snow soap
sock soda soft song soup south spoon sport spring stage star steam stone stop store storm sugar summer sun swim table tail
talk tank taxi tea team tent test tiger time toast tower town toy track train tree truck tulip turn uncle under unit urban
valley van velvet video view violin vote wagon walk wall warm watch water wave west whale wheat wheel wind window wine wolf
wood wool work world yard year yellow young zebra zero zone zoo
""".split()

# name: RGB
COLOURS = {
    "red": (220, 30, 30), "green": (30, 160, 50), "blue": (35, 70, 215), "yellow": (245, 220, 40),
    "orange": (250, 135, 20), "purple": (130, 45, 165), "pink": (250, 130, 185), "black": (20, 20, 20),
    "white": (248, 248, 248), "grey": (128, 128, 128),
}
BACKGROUNDS = {
    "white": (250, 250, 250), "black": (18, 18, 18), "grey": (150, 150, 150), "yellow": (250, 240, 160),
    "blue": (150, 190, 245), "green": (165, 225, 165), "pink": (250, 205, 220),
}
SHAPES = ["circle", "square", "triangle", "star", "diamond", "cross", "hexagon", "ring"]
LABELS = ["A", "B", "C", "D", "E", "F", "P", "Q", "R", "X", "Y", "Z", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Mon", "Tue",
          "Wed", "Thu", "Fri", "Sat", "Sun", "tea", "rice", "milk", "cat", "dog", "car", "bus"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
