// The bank on a plane: draws, pans, zooms and tells which row was picked.
export function createMap(canvas, onPick) {
  const view = { x: 0, y: 0, zoom: 1 };
  const pointers = new Map();
  let points = new Float32Array(), hits = [], moved = 0, spread = 0;
  const scale = () => Math.min(canvas.clientWidth, canvas.clientHeight) / 2.1 * view.zoom;
  const screen = (row) => [canvas.clientWidth / 2 + (points[2 * row] - view.x) * scale(), canvas.clientHeight / 2 - (points[2 * row + 1] - view.y) * scale()];

  function draw() {
    const ratio = devicePixelRatio || 1, style = getComputedStyle(canvas), context = canvas.getContext('2d');
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    context.scale(ratio, ratio);
    context.fillStyle = style.getPropertyValue('--muted');
    context.globalAlpha = 0.5;
    for (let row = 0; row < points.length / 2; row++) { const [x, y] = screen(row); context.fillRect(x - 1, y - 1, 2, 2); }
    context.globalAlpha = 1;
    context.fillStyle = style.getPropertyValue('--accent');
    for (const row of hits) {
      if (2 * row >= points.length) continue;
      const [x, y] = screen(row);
      context.beginPath(); context.arc(x, y, 5, 0, 7); context.fill();
    }
  }
  function zoom(factor) { view.zoom = Math.min(200, Math.max(0.5, view.zoom * factor)); draw(); }
  function pan(dx, dy) { view.x -= dx / scale(); view.y += dy / scale(); draw(); }
  function pick(x, y) {
    let best = -1, least = 24 ** 2;
    for (let row = 0; row < points.length / 2; row++) {
      const [px, py] = screen(row), distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) { least = distance; best = row; }
    }
    if (best >= 0) onPick(best);
  }
  const apart = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
  canvas.onpointerdown = (e) => {
    canvas.setPointerCapture(e.pointerId);
    pointers.set(e.pointerId, { x: e.offsetX, y: e.offsetY });
    moved = pointers.size > 1 ? Infinity : 0;
    if (pointers.size === 2) spread = apart();
  };
  canvas.onpointermove = (e) => {
    const before = pointers.get(e.pointerId);
    if (!before) return;
    const [dx, dy] = [e.offsetX - before.x, e.offsetY - before.y];
    pointers.set(e.pointerId, { x: e.offsetX, y: e.offsetY });
    moved += Math.hypot(dx, dy);
    if (pointers.size === 2) { const now = apart(); zoom(now / spread); spread = now; } else pan(dx, dy);
  };
  canvas.onpointerup = (e) => { pointers.delete(e.pointerId); if (moved < 5) pick(e.offsetX, e.offsetY); };
  canvas.onpointercancel = (e) => pointers.delete(e.pointerId);
  canvas.addEventListener('wheel', (e) => { e.preventDefault(); zoom(Math.exp(-e.deltaY / 400)); }, { passive: false });
  canvas.onkeydown = (e) => {
    const act = { ArrowLeft: () => pan(30, 0), ArrowRight: () => pan(-30, 0), ArrowUp: () => pan(0, 30), ArrowDown: () => pan(0, -30),
      '+': () => zoom(1.4), '-': () => zoom(1 / 1.4), Enter: () => pick(canvas.clientWidth / 2, canvas.clientHeight / 2) }[e.key];
    if (act) { e.preventDefault(); act(); }
  };
  new ResizeObserver(draw).observe(canvas);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  return { show(newPoints, newHits) { points = newPoints; hits = newHits; draw(); }, zoom, all() { Object.assign(view, { x: 0, y: 0, zoom: 1 }); draw(); } };
}
