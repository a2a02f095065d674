// Asks the worker, which owns the network and the bank; each question has one answer. The page loads this first: the
// worker starts while the page's other files come.
const worker = new Worker('worker.js', { type: 'module' }), waiting = new Map();
let lastId = 0, broken, onBroken = (error) => { broken = error; };
worker.onerror = ({ message }) => onBroken(new Error('the page\'s worker could not start: '
  + (message ?? 'one of worker.js, bundle.js and pkg/la_wasm.js is missing or broken: export the page again')));

export function ask(type, request = {}, transfer = []) {
  return new Promise((resolve, reject) => {
    waiting.set(++lastId, { resolve, reject });
    worker.postMessage({ id: lastId, type, ...request }, transfer);
  });
}

// `news` has a function for each message that answers no question: progress, threads.
export function listenToWorker(news, whenBroken) {
  onBroken = whenBroken;
  if (broken) onBroken(broken);
  worker.onmessage = ({ data }) => {
    if (data.type in news) return news[data.type](data);
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.type === 'done') resolve(data.result); else reject(new Error(data.message));
  };
}
