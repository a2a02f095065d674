// Asks the worker, which owns the network and the bank; each question has one answer. The page loads this first, so
// that the bundle is on its way while the page's other files come.
import { bundleBase, clamped } from './address.js';

const worker = new Worker('worker.js', { type: 'module' }), waiting = new Map(), early = [];
let lastId = 0, news = null, onBroken = (error) => early.push(error);

export function ask(type, request = {}, transfer = []) {
  return new Promise((resolve, reject) => {
    waiting.set(++lastId, { resolve, reject });
    worker.postMessage({ id: lastId, type, ...request }, transfer);
  });
}

worker.onerror = ({ message }) => onBroken(new Error('the page\'s worker could not start: '
  + (message ?? 'one of worker.js, bundle.js and pkg/la_wasm.js is missing or broken: export the page again')));
worker.onmessage = ({ data }) => {
  if (!data.id) return news ? news[data.type](data) : early.push(data);
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.type === 'done') resolve(data.result); else reject(new Error(data.message));
};

// `given` has a function for each message that answers no question: progress, threads.
export function listenToWorker(given, whenBroken) {
  [news, onBroken] = [given, whenBroken];
  for (const one of early.splice(0)) if (one instanceof Error) onBroken(one); else news[one.type](one);
}

// The bundle of this address.
export const loading = load();
loading.catch(() => {});

async function load() {
  const params = new URLSearchParams(location.search), threads = Math.round(clamped(params.get('threads'), 1, 32, 0));
  return ask('load', { base: bundleBase(params), threads });
}
