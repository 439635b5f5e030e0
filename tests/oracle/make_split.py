#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_split.py HUB_DIR TEXT.gguf PROJECTOR.gguf [--cross-unpermuted]
   make_split.py HUB_DIR --combined OUT.gguf
   make_split.py LLAMA_HUB_DIR --llama OUT.gguf"""
import argparse

import hub2gguf

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("hub")
p.add_argument("text", nargs="?")
p.add_argument("projector", nargs="?")
p.add_argument("--combined", metavar="OUT")
p.add_argument("--llama", metavar="OUT")
p.add_argument("--cross-unpermuted", action="store_true")
a = p.parse_args()
if a.combined:
    hub2gguf.write_combined(a.hub, a.combined)
elif a.llama:
    hub2gguf.write_llama(a.hub, a.llama)
elif a.text and a.projector:
    hub2gguf.write_split(a.hub, a.text, a.projector, not a.cross_unpermuted)
else:
    p.error("name two output files, or --combined, or --llama")
