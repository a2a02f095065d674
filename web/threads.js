// Starts the module whose memory threads share, and its helpers, where the page is cross-origin isolated.
const MODULE = './pkg/la_wasm_threads_bg.wasm', GLUE = './pkg/la_wasm_threads.js', HELPER = './helper.js';
// More than this gain little on one picture; PATIENCE is in milliseconds.
const MOST = 8, MOST_ASKED = 32, PATIENCE = 5000;
const at = (path) => new URL(path, import.meta.url).href;

// How many threads this page may have; `asked` is ?threads=N.
export function threadsFor(asked) {
  if (!globalThis.crossOriginIsolated || !globalThis.SharedArrayBuffer) return 1;
  return asked ? Math.min(asked, MOST_ASKED) : Math.min(navigator.hardwareConcurrency || 1, MOST);
}

// Workers that help for as long as the page lives.
const helpers = [];

// The module's functions, its memory, the files that this took, and, once every helper has joined or failed, how many
// threads compute. Nobody waits for helpers: one that joins takes part from then on.
export async function startThreads(threads) {
  const la = await import(GLUE), module = await compile(at(MODULE));
  const { memory } = await la.default({ module_or_path: module });
  const helped = Promise.all(Array.from({ length: threads - 1 }, () => help(module, memory)));
  const joined = helped.then((came) => 1 + came.filter(Boolean).length);
  return { la, memory, joined, files: [at(MODULE), at(GLUE)] };
}

const compileWhole = async (url) => WebAssembly.compile(await (await fetch(url)).arrayBuffer());
const compile = (url) => WebAssembly.compileStreaming(fetch(url)).catch(() => compileWhole(url));

function help(module, memory) {
  const helper = new Worker(at(HELPER), { type: 'module' });
  helpers.push(helper);
  return new Promise((resolve) => {
    helper.onmessage = () => resolve(true);
    helper.onerror = (event) => { event.preventDefault(); resolve(false); };
    setTimeout(() => resolve(false), PATIENCE);
    helper.postMessage({ module, memory });
  });
}
