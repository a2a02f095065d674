// Pointers on a canvas. A mouse pans or picks. One finger picks and scrolls the page, two pan and zoom together.
export function createGestures(canvas, { pan, zoom, pick, look, leave }) {
  const CLICK = 6, pointers = new Map();
  let last = null, moved = 0;
  // The canvas has neither border nor padding; its box would be measured anew at every move.
  const at = (event) => ({ x: event.offsetX, y: event.offsetY });
  // Middle of all pointers, and how far they lie from it: both start anew when a finger comes or goes.
  function measure() {
    const all = [...pointers.values()], mean = (key) => all.reduce((sum, one) => sum + one[key], 0) / all.length;
    const x = mean('x'), y = mean('y'), spread = Math.max(...all.map((one) => Math.hypot(one.x - x, one.y - y)));
    return all.length ? { x, y, spread } : null;
  }
  canvas.onpointerdown = (event) => {
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer made by a script cannot be captured */ }
    pointers.set(event.pointerId, at(event));
    moved = pointers.size > 1 ? Infinity : 0;
    last = measure();
  };
  canvas.onpointermove = (event) => {
    if (!pointers.has(event.pointerId)) return look(event.offsetX, event.offsetY);
    pointers.set(event.pointerId, at(event));
    const now = measure();
    moved += Math.hypot(now.x - last.x, now.y - last.y);
    if (moved >= CLICK && (event.pointerType !== 'touch' || pointers.size > 1)) follow(now);
    last = moved < CLICK ? last : now;
  };
  function follow(now) {
    pan(now.x - last.x, now.y - last.y);
    if (last.spread > 0 && now.spread > 0) zoom(now.spread / last.spread, now.x, now.y);
  }
  function lift(event, picks) {
    if (!pointers.delete(event.pointerId)) return;
    last = measure();
    const { x, y } = at(event);
    if (picks && !pointers.size && moved < CLICK) pick(x, y);
  }
  canvas.onpointerup = (event) => lift(event, true);
  canvas.onpointercancel = (event) => lift(event, false);
  canvas.onpointerleave = leave;
  // Two fingers that move alike would scroll the page as well.
  const keepTwo = (event) => { if (event.touches.length > 1 && event.cancelable) event.preventDefault(); };
  for (const type of ['touchstart', 'touchmove']) canvas.addEventListener(type, keepTwo, { passive: false });
  canvas.addEventListener('wheel', (event) => {
    // Else the page could not be scrolled past the canvas. A pinch on a touchpad comes as a wheel with ctrlKey.
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
    // A wheel that counts lines or pages gives small numbers.
    const { x, y } = at(event), step = event.deltaY * [1, 16, 400][event.deltaMode];
    event.preventDefault();
    zoom(Math.exp(-step / 400), x, y);
  }, { passive: false });
}
