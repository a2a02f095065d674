// Near-duplicates: pictures that are hardly less similar to each other than to themselves, in groups.
import { ask } from './client.js';
import { counted } from './state.js';

const AT_ONCE = 16, LATER = 500;

// Searches from each row in turn; a row joins the group of the first that is so similar to it. `onFound` hears of the
// groups, how many rows have been looked at and how many there are, and says whether to go on.
export async function findTwins(min, onFound) {
  const grouped = new Set(), groups = [];
  for (let from = 0, rows = Infinity, last = 0; from < rows;) {
    const { alike, length } = await ask('twins', { from, to: from + AT_ONCE, min });
    for (const [row, ...others] of alike.filter(([row]) => !grouped.has(row))) {
      const group = [row, ...others.filter((other) => !grouped.has(other))];
      if (group.length === 1) continue;
      group.forEach((one) => grouped.add(one));
      groups.push(group);
    }
    rows = length;
    from = Math.min(from + AT_ONCE, rows);
    if (from < rows && performance.now() < last + LATER) continue;
    last = performance.now();
    if (!onFound(groups, from, rows)) return;
  }
}

// The button that shows them on the shelf in place of all pictures, and again all; `minimum` is the field of how
// similar.
export function createTwins({ button, minimum }, shelf) {
  let run = null, groupOf = new Map();
  async function look() {
    const mine = run = {}, min = Number(minimum.value);
    show(true);
    await findTwins(min, (groups, done, rows) => {
      if (run !== mine) return false;
      groupOf = new Map(groups.flatMap((group, index) => group.map((row) => [row, index])));
      shelf.set(groups.flat(), wordsOf(groups.length, done, rows));
      return true;
    });
  }
  function show(isOn) {
    button.setAttribute('aria-pressed', isOn);
    minimum.parentElement.hidden = !isOn;
  }
  // Ends the search; the shelf then shows what it is told to.
  function leave() {
    run = null;
    groupOf = new Map();
    show(false);
  }
  return {
    leave,
    look,
    isOn: () => Boolean(run),
    again: () => run && look(),
    // The number of a row's group, or nothing.
    groupOf: (row) => groupOf.get(row),
  };
}

function wordsOf(groups, done, rows) {
  const found = groups ? `${counted(groups, 'group')} of near-duplicates` : 'No near-duplicates';
  return done < rows ? `${found} among the first ${done.toLocaleString('en')} of ${counted(rows, 'picture')}` : found;
}
