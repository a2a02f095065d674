// The bank on a plane: draws, pans, zooms, and tells which row is near the pointer and which was picked.
import { createGestures } from './gestures.js';

const REACH = 24, LEAST_ZOOM = 0.5, MOST_ZOOM = 200;

export function createMap(canvas, { onPick, onPoint }) {
  const view = { x: 0, y: 0, zoom: 1 };
  let points = new Float32Array(), groups = [], hits = [], query, here = -1, due = 0;
  const scale = () => Math.min(canvas.clientWidth, canvas.clientHeight) / 2.1 * view.zoom;
  const screen = (row) => [canvas.clientWidth / 2 + (points[2 * row] - view.x) * scale(), canvas.clientHeight / 2 - (points[2 * row + 1] - view.y) * scale()];
  const redraw = () => { due ||= requestAnimationFrame(draw); };

  function draw() {
    due = 0;
    const ratio = devicePixelRatio || 1, context = canvas.getContext('2d'), style = getComputedStyle(canvas);
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    context.scale(ratio, ratio);
    drawBank(context, style);
    for (const row of hits) dot(context, row, 5.5, style.getPropertyValue('--text'), style.getPropertyValue('--card'));
    if (query !== undefined) ring(context, query, style.getPropertyValue('--accent'));
    if (here >= 0 && here !== query) ring(context, here, style.getPropertyValue('--muted'));
    if (document.activeElement === canvas && canvas.matches(':focus-visible')) cross(context, style.getPropertyValue('--muted'));
  }

  function drawBank(context, style) {
    const [factor, left, top] = [scale(), canvas.clientWidth / 2, canvas.clientHeight / 2];
    const side = Math.min(5, (points.length > 40000 ? 1.5 : 3) * Math.max(1, view.zoom ** 0.3));
    context.globalAlpha = points.length > 40000 ? 0.5 : 0.75;
    groups.forEach((rows, group) => {
      context.fillStyle = group ? `hsl(${hueOf(group - 1, groups.length - 1)} ${style.getPropertyValue('--point')})` : style.getPropertyValue('--muted');
      for (const row of rows) context.fillRect(left + (points[2 * row] - view.x) * factor - side / 2, top - (points[2 * row + 1] - view.y) * factor - side / 2, side, side);
    });
    context.globalAlpha = 1;
  }

  const known = (row) => 2 * row < points.length;
  function dot(context, row, radius, colour, edge) {
    if (!known(row)) return;
    context.beginPath();
    context.arc(...screen(row), radius, 0, 7);
    Object.assign(context, { fillStyle: colour, strokeStyle: edge, lineWidth: 2 });
    context.fill();
    context.stroke();
  }
  function ring(context, row, colour) {
    if (!known(row)) return;
    context.beginPath();
    context.arc(...screen(row), 10, 0, 7);
    Object.assign(context, { strokeStyle: colour, lineWidth: 3 });
    context.stroke();
  }
  function cross(context, colour) {
    const [x, y] = middle();
    context.fillStyle = colour;
    context.fillRect(x - 12, y - 0.5, 24, 1);
    context.fillRect(x - 0.5, y - 12, 1, 24);
  }

  const middle = () => [canvas.clientWidth / 2, canvas.clientHeight / 2];
  // Zooms so that what lies under (x, y) stays there.
  function zoom(factor, x = middle()[0], y = middle()[1]) {
    const before = scale(), [left, top] = middle();
    view.zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, view.zoom * factor));
    const change = 1 / before - 1 / scale();
    view.x += (x - left) * change;
    view.y -= (y - top) * change;
    redraw();
  }
  function pan(dx, dy) { view.x -= dx / scale(); view.y += dy / scale(); redraw(); }

  function nearest(x, y) {
    let best = -1, least = REACH ** 2;
    for (let row = 0; known(row); row++) {
      const [px, py] = screen(row), distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) { least = distance; best = row; }
    }
    return best;
  }
  function look(x, y) {
    const row = nearest(x, y);
    if (row !== here) { here = row; onPoint(row); redraw(); }
  }
  function pick(x, y) { const row = nearest(x, y); if (row >= 0) onPick(row); }

  createGestures(canvas, { pan, zoom, pick, look, leave() { here = -1; onPoint(-1); redraw(); } });
  canvas.onkeydown = (event) => {
    const act = { ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0), ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
      '+': () => zoom(1.5), '=': () => zoom(1.5), '-': () => zoom(1 / 1.5), Enter: () => pick(...middle()) }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
    if (event.key !== 'Enter') look(...middle());
  };
  canvas.onfocus = canvas.onblur = redraw;
  new ResizeObserver(redraw).observe(canvas);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  return {
    points(given, labels, numClasses) { points = given; groups = groupsOf(given.length / 2, labels, numClasses); redraw(); },
    light(rows, row) { hits = rows; query = row; redraw(); },
    zoom: (factor) => zoom(factor),
    all() { Object.assign(view, { x: 0, y: 0, zoom: 1 }); redraw(); },
    screen,
  };
}

// Rows class by class, so that a colour is set once for each; first those without a class.
function groupsOf(rows, labels, numClasses) {
  const groups = Array.from({ length: numClasses + 1 }, () => []);
  for (let row = 0; row < rows; row++) groups[labels?.[row] < numClasses ? labels[row] + 1 : 0].push(row);
  return groups;
}

// Few classes are spread over the circle, many step by the golden angle, so that no two neighbours look alike.
const hueOf = (group, groups) => (groups <= 12 ? 360 * group / groups : 137.5 * group) % 360;
