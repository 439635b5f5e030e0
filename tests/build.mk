# SPDX-License-Identifier: Apache-2.0
# Checks of the tree itself, and the data that several kinds of test share.
BUILD_TESTS = tests/completion.sh tests/headers.sh tests/install.sh tests/layers.sh tests/man.sh \
	tests/style.sh tests/symbols.sh tests/vendored.sh
dist_check_SCRIPTS += $(BUILD_TESTS)
TESTS += $(BUILD_TESTS)
EXTRA_DIST += tests/symbols.txt third_party/stb/README.md third_party/stb/stb_image.h

EXTRA_DIST += \
	tests/data/README.md \
	tests/data/chat-template-goldens.json \
	tests/data/image-goldens.json \
	tests/data/llama3.2-vision-instruct.chat_template.jinja \
	tests/data/photo/README.md \
	tests/data/photo/cat.jpg \
	tests/data/tokenizer-goldens.json \
	tests/data/tiny-a/cases.json \
	tests/data/tiny-a/golden.safetensors \
	tests/data/tiny-a/images/alpha.png \
	tests/data/tiny-a/images/big.png \
	tests/data/tiny-a/images/gray.png \
	tests/data/tiny-a/images/one.png \
	tests/data/tiny-a/images/palette.png \
	tests/data/tiny-a/images/square.png \
	tests/data/tiny-a/images/tall.png \
	tests/data/tiny-a/images/thin.png \
	tests/data/tiny-a/images/wide.png
