// SPDX-License-Identifier: Apache-2.0
// llama.cpp through npm's node-llama-cpp: node peer-llama.mjs MODEL PROMPT GEN THREADS [LIBRARY FOLDER]
// Prints {"prefill": tokens/s, "decode": tokens/s}. Run in the folder where the package is installed.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(process.cwd(), "x.js"));
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(require.resolve("node-llama-cpp")).href);
const [, , modelPath, prompt, gen, threads] = process.argv;
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: Number(threads) });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const context = await model.createContext({
    contextSize: Number(prompt) + Number(gen) + 64, batchSize: Number(prompt), threads: { ideal: Number(threads), min: Number(threads) },
});
const sequence = context.getSequence();
const tokens = Array.from({ length: Number(prompt) }, (_, i) => 1000 + ((i * 7919) % 90000) % 20000);
const start = performance.now();
await sequence.evaluateWithoutGeneratingNewTokens(tokens);
const read = performance.now();
let n = 0, from = 0;
for await (const token of sequence.evaluate([1234], { temperature: 0, yieldEogToken: true })) {
    if (n === 0) from = performance.now();
    if (++n > Number(gen)) break;
}
const end = performance.now();
console.log(JSON.stringify({ prefill: tokens.length / ((read - start) / 1000), decode: (n - 1) / ((end - from) / 1000) }));
await llama.dispose();
