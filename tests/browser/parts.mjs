// Parts of the page by themselves, against the plainest way to do the same.
import assert from 'node:assert/strict';
import { createGrid } from '../../web/grid.js';
import { compose, likeness, sampled, usualOf } from '../../web/likeness.js';
import { createNames } from '../../web/names.js';

function generator(seed) {
  return () => { seed = Math.imul(seed, 1664525) + 1013904223 >>> 0; return seed / 2 ** 32; };
}

export async function the_grid_finds_the_nearest_point_wherever_it_lies() {
  const random = generator(7), points = Float32Array.from({ length: 2 * 3000 }, (_, i) => (i < 3000 ? random() ** 3 : 2 * random() - 1));
  const grid = createGrid(points), isWanted = (row) => row % 3 !== 0;
  for (let turn = 0; turn < 400; turn++) {
    const x = 3 * random() - 1.5, y = 3 * random() - 1.5, reach = random() ** 2, far = (row) => (points[2 * row] - x) ** 2 + (points[2 * row + 1] - y) ** 2;
    let best = -1, least = reach * reach;
    for (let row = 0; row < 3000; row++) if (isWanted(row) && far(row) < least) { best = row; least = far(row); }
    assert.equal(grid.nearest(x, y, reach, isWanted), best);
  }
  assert.equal(createGrid(new Float32Array()).nearest(0, 0, 1, () => true), -1, 'there is a nearest of none');
}

export async function names_are_found_whatever_their_case_and_length() {
  const lines = ['Abc/one.jpg', '', 'ABC abc abc', 'x', 'İstanbul.png', 'straße.PNG', 'x'], bytes = new TextEncoder().encode(lines.map((line) => `${line}\n`).join(''));
  const names = createNames(bytes, lines.length), found = (text) => { const marks = new Uint8Array(lines.length); names.matching(text, marks); return [...marks]; };
  lines.forEach((line, row) => assert.equal(names.of(row), line));
  for (const text of ['abc', 'ABC', 'x', '.png', 'one.jpg', 'straße', 'İ', 'nothing']) {
    assert.deepEqual(found(text), lines.map((line) => Number(line.toLowerCase().includes(text.toLowerCase()))), text);
  }
}

export async function names_like_the_one_before_are_looked_at_and_not_searched() {
  const rows = 20000, lines = Array.from({ length: rows }, (_, row) => `folder ${row % 97}/image_${String(row * 7919 % 10000).padStart(4, '0')}.jpg`);
  const names = createNames(new TextEncoder().encode(lines.map((line) => `${line}\n`).join('')), rows), { indexOf } = String.prototype;
  let searches = 0;
  String.prototype.indexOf = function count(...args) { searches++; return indexOf.apply(this, args); };
  try {
    for (const text of ['i', 'image', 'age_0', '.jpg']) names.matching(text, new Uint8Array(rows));
  } finally { String.prototype.indexOf = indexOf; }
  // In two of ninety-seven the folder's number has another length than the one before.
  assert.ok(searches < rows / 2, `${searches} searches for four words in ${rows} names`);
}

// Two hundred rows on a circle, each a degree from the next.
function circle() {
  const row = (i) => Float32Array.of(Math.cos(i * Math.PI / 180), Math.sin(i * Math.PI / 180)), dot = (a, b) => a[0] * b[0] + a[1] * b[1];
  const search = (query, k) => {
    const all = Array.from({ length: 200 }, (_, i) => [i, dot(row(i), query)]).sort((a, b) => b[1] - a[1]).slice(0, k);
    return { rows: all.map(([i]) => i), scores: all.map(([, score]) => score), free() {} };
  };
  return { row, search, length: 200 };
}

export async function what_is_usual_is_the_similarity_of_neighbours() {
  const rows = sampled(200), { nearest, any } = likeness(circle(), rows), usual = usualOf(nearest, any), degree = Math.cos(Math.PI / 180);
  assert.equal(new Set(rows).size, 200);
  for (const key of ['low', 'high', 'any']) assert.ok(Math.abs(usual[key] - degree) < 1e-6, `${key}: ${usual[key]}`);
  assert.equal(usualOf(nearest.slice(0, 19), any), null, 'nineteen pictures say what is usual');
}

export async function pictures_for_and_against_give_a_direction_of_length_one() {
  const [x, y, z] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]].map((one) => Float32Array.from(one));
  assert.deepEqual([...compose([x], [])], [1, 0, 0]);
  const both = compose([x, y], [z]), length = Math.hypot(0.5, 0.5, 1);
  [0.5, 0.5, -1].forEach((value, i) => assert.ok(Math.abs(both[i] - value / length) < 1e-6));
}
