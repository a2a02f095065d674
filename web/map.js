// The bank on a plane: pans, zooms, and tells which row is near the pointer and which was picked. Points are drawn
// when the view changes; a pointer that moves redraws nothing.
import { createGestures } from './gestures.js';
import { createGrid } from './grid.js';
import { createPlot, pixelOf } from './plot.js';

const REACH = 24, LEAST_ZOOM = 0.5, MOST_ZOOM = 200, MANY = 40000, FEW = 1000;

export function createMap(canvas, { onPick, onPoint }) {
  const view = { x: 0, y: 0, zoom: 1 }, plot = createPlot(), context = canvas.getContext('2d');
  // Pictures of the session lie on the map too: `placed` has their points by row.
  const bank = { points: new Float32Array(), groups: null, colours: [0], wanted: null, faint: 0 }, placed = new Map();
  let grid = createGrid(bank.points), numClasses = 0, hits = [], query, due = 0, drawn = null;
  // Where the pointer is, and which row lies there.
  let pointer = null, here = -1;
  let size = { width: 0, height: 0, ratio: 1 }, style = {};

  const scale = () => Math.min(size.width, size.height) / 2.1 * view.zoom;
  const middle = () => [size.width / 2, size.height / 2];
  const isOfBank = (row) => 2 * row < bank.points.length;
  const known = (row) => isOfBank(row) || placed.has(row);
  const wanted = (row) => !bank.wanted || Boolean(bank.wanted[row]);
  const ofBank = (row) => [bank.points[2 * row], bank.points[2 * row + 1]];
  const point = (row) => (isOfBank(row) ? ofBank(row) : placed.get(row) ?? [NaN, NaN]);
  function screen(row) {
    const [x, y] = point(row), [left, top] = middle();
    return [left + (x - view.x) * scale(), top - (y - view.y) * scale()];
  }

  const redrawRings = () => { due ||= requestAnimationFrame(draw); };
  function redraw() { drawn = null; redrawRings(); }
  function draw() {
    due = 0;
    if (!drawn) {
      drawn = drawPoints();
      // What lies under a pointer that stands still may be another point now, or elsewhere.
      if (pointer) look(...pointer);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (drawn) context.drawImage(drawn, 0, 0);
    context.scale(size.ratio, size.ratio);
    for (const row of placed.keys()) if (wanted(row)) dot(row, 4, style.accent, style.card);
    for (const row of hits) dot(row, 5.5, style.text, style.card);
    if (query !== undefined) ring(query, style.accent);
    if (document.activeElement === canvas && canvas.matches(':focus-visible')) cross(style.muted);
  }

  function drawPoints() {
    if (!bank.points.length || !size.width || !size.height) return null;
    const { ratio } = size, factor = scale() * ratio, many = bank.points.length > MANY;
    const place = { scale: factor, left: canvas.width / 2 - view.x * factor, top: canvas.height / 2 + view.y * factor };
    const side = Math.min(6, (many ? 1.5 : bank.points.length < FEW ? 5 : 3) * Math.max(1, view.zoom ** 0.3)) * ratio;
    return plot.draw(canvas.width, canvas.height, bank, place, { side, opacity: many ? 0.5 : 0.8 });
  }

  function circle(row, radius) {
    context.beginPath();
    context.arc(...screen(row), radius, 0, 7);
  }
  function dot(row, radius, colour, edge) {
    if (!known(row)) return;
    circle(row, radius);
    Object.assign(context, { fillStyle: colour, strokeStyle: edge, lineWidth: 2 });
    context.fill();
    context.stroke();
  }
  function ring(row, colour) {
    if (!known(row)) return;
    circle(row, 10);
    Object.assign(context, { strokeStyle: colour, lineWidth: 3 });
    context.stroke();
  }
  function cross(colour) {
    const [x, y] = middle();
    context.fillStyle = colour;
    context.fillRect(x - 12, y - 0.5, 24, 1);
    context.fillRect(x - 0.5, y - 12, 1, 24);
  }

  // Zooms so that what lies under (x, y) stays there.
  function zoom(factor, x = middle()[0], y = middle()[1]) {
    const before = scale(), [left, top] = middle();
    view.zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, view.zoom * factor));
    const change = 1 / before - 1 / scale();
    view.x += (x - left) * change;
    view.y -= (y - top) * change;
    redraw();
  }
  // Buttons and keys zoom to the picture that is asked about, from wherever it lies.
  function zoomToQuery(factor) {
    const [x, y] = known(query) ? screen(query) : middle();
    const isSeen = x >= 0 && y >= 0 && x <= size.width && y <= size.height;
    if (!isSeen) [view.x, view.y] = point(query);
    zoom(factor, ...(isSeen ? [x, y] : middle()));
  }
  function pan(dx, dy) { view.x -= dx / scale(); view.y += dy / scale(); redraw(); }

  function nearest(x, y) {
    const [left, top] = middle(), factor = scale();
    const at = [(x - left) / factor + view.x, (top - y) / factor + view.y];
    const best = { row: -1, far: REACH / factor };
    for (const [row, place] of placed) {
      const far = Math.hypot(place[0] - at[0], place[1] - at[1]);
      if (far < best.far && wanted(row)) Object.assign(best, { row, far });
    }
    const row = grid.nearest(...at, best.far, wanted);
    return row < 0 ? best.row : row;
  }
  function look(x, y) {
    pointer = [x, y];
    show(nearest(x, y));
  }
  // The ring around it is the page's: the canvas need not be drawn again.
  function show(row) {
    if (row < 0 && here < 0) return;
    here = row;
    onPoint(row, row < 0 ? null : screen(row), size);
  }
  function pick(x, y) { const row = nearest(x, y); if (row >= 0) onPick(row); }

  function leave() { pointer = null; show(-1); }

  createGestures(canvas, { pan, zoom, pick, look, leave });
  canvas.onkeydown = (event) => {
    const act = {
      ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0),
      ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
      '+': () => zoom(1.5), '=': () => zoom(1.5), '-': () => zoom(1 / 1.5), Enter: () => pick(...middle()),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
    if (event.key !== 'Enter') look(...middle());
  };
  canvas.onfocus = canvas.onblur = redrawRings;

  // Sizes and colours are read here only: asking for them at every move makes the browser lay the page out anew.
  function measure() {
    size = { width: canvas.clientWidth, height: canvas.clientHeight, ratio: devicePixelRatio || 1 };
    canvas.width = Math.round(size.width * size.ratio);
    canvas.height = Math.round(size.height * size.ratio);
    redraw();
  }
  function readColours() {
    const computed = getComputedStyle(canvas), value = (name) => computed.getPropertyValue(`--${name}`).trim();
    style = { text: value('text'), card: value('card'), accent: value('accent'), muted: value('muted') };
    bank.faint = pixelOf(style.muted);
    const pixelOfClass = (_, index) => pixelOf(colourOf(index, numClasses, value('point')));
    bank.colours = [bank.faint, ...Array.from({ length: numClasses }, pixelOfClass)];
    redraw();
  }
  new ResizeObserver(measure).observe(canvas);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', readColours);
  readColours();
  return {
    points(given, labels, count) {
      numClasses = count;
      Object.assign(bank, { points: given, groups: groupsOf(given.length / 2, labels, count) });
      grid = createGrid(given);
      readColours();
    },
    // Puts a row of the session to the mean of other rows' places; takes it away where there are none.
    place(row, others) {
      const points = others.filter(known).map(point);
      const mean = (axis) => points.reduce((sum, at) => sum + at[axis], 0) / points.length;
      if (points.length) placed.set(row, [mean(0), mean(1)]); else placed.delete(row);
      redrawRings();
    },
    light(rows, row) { hits = rows; query = row; redrawRings(); },
    only(marks) { if (marks !== bank.wanted) { bank.wanted = marks; redraw(); } },
    zoom: zoomToQuery,
    all() { Object.assign(view, { x: 0, y: 0, zoom: 1 }); redraw(); },
    screen,
  };
}

// Which colour each row has: 0 without a class, else that of its class.
function groupsOf(rows, labels, numClasses) {
  const groups = new Uint32Array(rows);
  if (labels) for (let row = 0; row < rows; row++) groups[row] = labels[row] < numClasses ? labels[row] + 1 : 0;
  return groups;
}

// Few classes are spread over the circle, many step by the golden angle, so that no two neighbours look alike. `tone`
// is saturation and lightness.
export function colourOf(index, count, tone) {
  const hue = count <= 12 ? 360 * index / count : 137.5 * index;
  return `hsl(${hue % 360} ${tone})`;
}
