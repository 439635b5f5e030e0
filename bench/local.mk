EXTRA_DIST += bench/LOG.md bench/README.md bench/insn-count bench/kl bench/peer-llama.mjs bench/plot bench/report bench/run bench/types \
	bench/results/2026-11-22-epyc-zen5-first-run.md \
	bench/results/2026-11-22-instruction-counts.txt \
	bench/results/2026-11-28-8b-peers.csv \
	bench/results/2026-11-27-8b2l-context.csv \
	bench/results/2026-11-27-arm64-instruction-counts.txt \
	bench/results/2026-11-27-few-rows.md \
	bench/results/2026-11-28-kernels.txt \
	bench/results/2026-11-28-few-rows-2-threads.txt \
	bench/results/2026-11-27-kernels-2-threads.txt \
	bench/results/batch.png \
	bench/results/context.png \
	bench/results/peers.png \
	bench/results/roofline.png
