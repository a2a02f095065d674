// The nearest of many points on a plane, x and y each in -1 to 1: the cells of a grid hold their rows.
const PER_CELL = 2, MOST_CELLS = 1024;

export function createGrid(points) {
  const rows = points.length / 2, side = Math.max(1, Math.min(MOST_CELLS, Math.ceil(Math.sqrt(rows / PER_CELL))));
  const place = (value) => Math.max(0, Math.min(side - 1, Math.floor((value + 1) / 2 * side)));
  const cellOf = (row) => place(points[2 * row + 1]) * side + place(points[2 * row]);
  const { first, order } = sorted(rows, side * side, cellOf);

  // Squares of cells around (x, y), from the middle out, until no cell left can hold a nearer point.
  function nearest(x, y, reach, isWanted) {
    const column = place(x), line = place(y), width = 2 / side, best = { row: -1, square: reach * reach };
    for (let ring = 0; ring < side; ring++) {
      const least = Math.max(0, ring - 1) * width;
      if (least * least > best.square) break;
      for (let row = Math.max(0, line - ring); row <= Math.min(side - 1, line + ring); row++) {
        const step = Math.abs(row - line) === ring ? 1 : 2 * ring;
        for (let at = column - ring; at <= column + ring; at += step) {
          if (at >= 0 && at < side) look(row * side + at, x, y, best, isWanted);
        }
      }
    }
    return best.row;
  }

  function look(cell, x, y, best, isWanted) {
    for (let i = first[cell]; i < first[cell + 1]; i++) {
      const row = order[i], square = (points[2 * row] - x) ** 2 + (points[2 * row + 1] - y) ** 2;
      if (square < best.square && isWanted(row)) Object.assign(best, { row, square });
    }
  }
  return { nearest };
}

// Rows in the order of their cells, and where each cell begins.
function sorted(rows, cells, cellOf) {
  const first = new Uint32Array(cells + 1), order = new Uint32Array(rows);
  for (let row = 0; row < rows; row++) first[cellOf(row) + 1]++;
  for (let cell = 0; cell < cells; cell++) first[cell + 1] += first[cell];
  const next = first.slice(0, cells);
  for (let row = 0; row < rows; row++) order[next[cellOf(row)]++] = row;
  return { first, order };
}
