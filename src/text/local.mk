libcore_la_SOURCES += \
	src/text/bpe.c src/text/bpe.h \
	src/text/chat.c src/text/chat.h \
	src/text/json_pull.c src/text/json_pull.h \
	src/text/pyfmt.c src/text/pyfmt.h \
	src/text/split.c src/text/split.h \
	src/text/utf8.c src/text/utf8.h \
	src/text/vocab.c src/text/vocab.h \
	src/text/vocab_build.h \
	src/text/vocab_json.c \
	src/text/vocab_list.c src/text/vocab_list.h
