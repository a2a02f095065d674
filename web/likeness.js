// How similar pictures of a bank are to each other, and embeddings asked about together.
// Of a row at most so many near-duplicates are looked for.
const SAMPLE = 256, LOW = 0.02, HIGH = 0.9, MOST = 32;

// Rows spread evenly over a bank: every visit takes the same.
export function sampled(rows) {
  const count = Math.min(SAMPLE, rows);
  return Array.from({ length: count }, (_, i) => Math.floor((i + 0.5) * rows / count));
}

// For each of some rows, its similarity to its nearest other and to the next of these rows, which is like any.
export function likeness(bank, rows) {
  const nearest = rows.map((row) => {
    const hits = bank.search(bank.row(row), Math.min(2, bank.length)), at = hits.rows.findIndex((hit) => hit !== row);
    const score = hits.scores[at];
    hits.free();
    return score;
  });
  const embeddings = rows.map((row) => bank.row(row));
  const any = embeddings.slice(1).map((one, i) => dot(one, embeddings[i]));
  return { nearest: nearest.filter((score) => score !== undefined), any };
}

// For rows `from` up to `to`: each with the later rows whose similarity is at least `min`.
export function alikeIn(bank, from, to, min, isGone) {
  const alike = [], length = bank.length;
  for (let row = from; row < Math.min(to, length); row++) {
    if (isGone(row)) continue;
    const hits = bank.search(bank.row(row), Math.min(MOST, length)), { rows, scores } = hits;
    const others = rows.filter((other, i) => other > row && scores[i] >= min && !isGone(other));
    if (others.length) alike.push([row, ...others]);
    hits.free();
  }
  return { alike, length };
}

// Below `low` a picture has nothing similar in the bank: of its own rows one in fifty has a nearest below. The slider
// goes from what any two pictures have in common on, the bars of scores from there to `high`.
export function usualOf(nearest, any) {
  if (nearest.length < 20) return null;
  const at = (values, share) => values.sort((a, b) => a - b)[Math.floor(share * (values.length - 1))];
  return { low: at(nearest, LOW), any: at(any, 0.5), high: at(nearest, HIGH) };
}

// The direction of what is wanted less what is not, of length 1.
export function compose(wanted, unwanted) {
  if (wanted.length === 1 && !unwanted.length) return wanted[0];
  const sum = new Float32Array(wanted[0].length);
  for (const one of wanted) for (let i = 0; i < sum.length; i++) sum[i] += one[i] / wanted.length;
  for (const one of unwanted) for (let i = 0; i < sum.length; i++) sum[i] -= one[i] / unwanted.length;
  const length = Math.hypot(...sum) || 1;
  return sum.map((value) => value / length);
}

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
