// The address of the page holds its state: what is asked, and how much of the answer is shown.
const DEFAULT_COUNT = 12, MOST = 200;

export function clamped(text, least, most, otherwise) {
  const value = parseFloat(text);
  return Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : otherwise;
}

export function bundleBase(params) {
  const model = params.get('model');
  if (model && !/^[\w.-]+\/[\w.-]+$/.test(model)) throw new Error(`?model=: expected owner/name, got ${model}`);
  const base = model ? `https://huggingface.co/${model}/resolve/main/bundle/` : params.get('bundle') ?? 'bundle/';
  try { return new URL(base.endsWith('/') ? base : `${base}/`, location.href).href; } catch {
    throw new Error(`?bundle=: expected the address of a folder, got ${base}`);
  }
}

export function readAddress() {
  const params = new URLSearchParams(location.search);
  const list = (key) => (params.get(key) ?? '').split(',').filter(Boolean);
  return {
    drop: params.get('drop'), row: params.get('row'), name: params.get('name'),
    also: list('also'), against: list('not'),
    k: Math.round(clamped(params.get('k'), 1, MOST, DEFAULT_COUNT)), min: clamped(params.get('min'), -1, 1, -1),
    classes: list('class').map(Number).filter(Number.isInteger), named: params.get('named') ?? '',
  };
}

// Changes some of the address's parameters; one that is null or empty goes.
export function changeAddress(changes, replace) {
  const url = new URL(location.href);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === '') url.searchParams.delete(key); else url.searchParams.set(key, value);
  }
  history[replace ? 'replaceState' : 'pushState'](null, '', url);
}
