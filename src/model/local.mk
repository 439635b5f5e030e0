libcore_la_SOURCES += src/model/model.h src/model/bind.c src/model/mm.c src/model/attn.c \
	src/model/kv.c src/model/lora.c src/model/forward.c src/model/vision.c src/model/w8a8.c
