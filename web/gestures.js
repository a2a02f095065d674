// Pointers on a canvas: one pans or picks, two pan and zoom together.
export function createGestures(canvas, { pan, zoom, pick, look, leave }) {
  const CLICK = 6, pointers = new Map();
  let last = null, moved = 0;
  const at = (event) => { const box = canvas.getBoundingClientRect(); return { x: event.clientX - box.left, y: event.clientY - box.top }; };
  // Middle of all pointers, and how far they lie from it: both start anew when a finger comes or goes.
  function measure() {
    const all = [...pointers.values()], mean = (key) => all.reduce((sum, pointer) => sum + pointer[key], 0) / all.length;
    const x = mean('x'), y = mean('y');
    return all.length ? { x, y, spread: Math.max(...all.map((pointer) => Math.hypot(pointer.x - x, pointer.y - y))) } : null;
  }
  canvas.onpointerdown = (event) => {
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer made by a script cannot be captured */ }
    pointers.set(event.pointerId, at(event));
    moved = pointers.size > 1 ? Infinity : 0;
    last = measure();
  };
  canvas.onpointermove = (event) => {
    if (!pointers.has(event.pointerId)) { const { x, y } = at(event); return look(x, y); }
    pointers.set(event.pointerId, at(event));
    const now = measure();
    moved += Math.hypot(now.x - last.x, now.y - last.y);
    if (moved < CLICK) return;
    pan(now.x - last.x, now.y - last.y);
    if (last.spread > 0 && now.spread > 0) zoom(now.spread / last.spread, now.x, now.y);
    last = now;
  };
  function lift(event, picks) {
    if (!pointers.delete(event.pointerId)) return;
    last = measure();
    const { x, y } = at(event);
    if (picks && !pointers.size && moved < CLICK) pick(x, y);
  }
  canvas.onpointerup = (event) => lift(event, true);
  canvas.onpointercancel = (event) => lift(event, false);
  canvas.onpointerleave = leave;
  canvas.addEventListener('wheel', (event) => {
    // Else the page could not be scrolled past the canvas. A pinch on a touchpad comes as a wheel with ctrlKey.
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
    // A wheel that counts lines or pages gives small numbers.
    const { x, y } = at(event), step = event.deltaY * [1, 16, 400][event.deltaMode];
    event.preventDefault();
    zoom(Math.exp(-step / 400), x, y);
  }, { passive: false });
}
