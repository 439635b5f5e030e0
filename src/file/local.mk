libcore_la_SOURCES += \
	src/file/adapter.c src/file/adapter.h \
	src/file/gguf.c src/file/gguf.h \
	src/file/gguf_write.c src/file/gguf_write.h \
	src/file/gguf_source.c \
	src/file/hparams.c src/file/hparams.h \
	src/file/hub.c \
	src/file/hub_json.c src/file/hub_json.h \
	src/file/imatrix.c src/file/imatrix.h \
	src/file/json.c src/file/json.h \
	src/file/safetensors.c src/file/safetensors.h \
	src/file/shape.c src/file/shape.h \
	src/file/source.c src/file/source.h src/file/source_priv.h \
	src/file/store.c src/file/store.h
