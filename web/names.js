// The names of the rows as one text: single strings would take more memory and time.
export function createNames(bytes, rows) {
  const text = new TextDecoder().decode(bytes), starts = lineStarts(text, rows);
  // Made when something is first looked for.
  let lower, lowerStarts;
  function makeLower() {
    lower = text.toLowerCase();
    // It may have another length, as that of İ has.
    lowerStarts = lower.length === text.length ? starts : lineStarts(lower, rows);
  }
  return {
    // The row of this name, or -1.
    find(name) {
      const at = `\n${text}`.indexOf(`\n${name}\n`);
      return at < 0 ? -1 : lineAt(starts, 0, at, rows);
    },
    of: (row) => (row < rows ? text.slice(starts[row], starts[row + 1] - 1) : ''),
    // Sets `found` to 1 for each row whose name has `wanted`.
    matching(wanted, found) {
      const sought = wanted.toLowerCase();
      if (lower === undefined) makeLower();
      for (let row = 0, column = 0; row < rows; row++) {
        // Names in a row mostly have it in the same place.
        const guess = lowerStarts[row] + column, isThere = lower.slice(guess, guess + sought.length) === sought
          && guess < lowerStarts[row + 1];
        const at = isThere ? guess : lower.indexOf(sought, lowerStarts[row]);
        if (at < 0 || at >= lowerStarts[rows]) return;
        if (!isThere) row = lineAt(lowerStarts, row, at, rows);
        column = at - lowerStarts[row];
        found[row] = 1;
      }
    },
  };
}

// Where each line begins, and after the last where the next would.
function lineStarts(text, rows) {
  const starts = new Uint32Array(rows + 1);
  for (let row = 1, at = 0; row <= rows; row++) {
    const end = text.indexOf('\n', at);
    starts[row] = at = end < 0 ? text.length + 1 : end + 1;
  }
  return starts;
}

// The line that holds `at`: steps that double, then halves, since the next match mostly is near.
function lineAt(starts, from, at, rows) {
  let step = 1, low = from;
  while (low + step < rows && starts[low + step] <= at) { low += step; step *= 2; }
  let high = Math.min(rows, low + step);
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= at) low = middle; else high = middle;
  }
  return low;
}
