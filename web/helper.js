// A thread of the module: shares the memory of the worker that started it, and takes part in what that computes.
import init, { abandon, help } from './pkg/la_wasm_threads.js';

self.onmessage = async ({ data: { module, memory } }) => {
  await init({ module_or_path: module, memory });
  self.postMessage('ready');
  // Ends only where the module stops: then whoever computes must not wait for this thread.
  try { help(); } catch (error) { abandon(); throw error; }
};
