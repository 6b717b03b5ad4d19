/** Sorting an index by time: natural merge sort, as rings are nearly sorted already. */

/**
 * A permutation that puts times in order. Each ring brings one ascending run, or a few where signals
 * nested; neighbouring runs are merged until one is left: n × log2(runs) steps, whatever comes in.
 * Equal times keep their order. The memory is reused.
 */
export class TimeOrder {
  /** `indices[i]` is the place of the i-th smallest key. Longer than what was sorted. */
  indices: Uint32Array = new Uint32Array(1024);
  #spare: Uint32Array = new Uint32Array(1024);
  #runs: Uint32Array = new Uint32Array(64);

  /** Sorts the first `count` keys. */
  sort(keys: Float64Array, count: number): void {
    if (count > this.indices.length) {
      const capacity = Math.max(count, this.indices.length * 2);
      this.indices = new Uint32Array(capacity);
      this.#spare = new Uint32Array(capacity);
    }
    let runs = this.#findRuns(keys, count);
    while (runs > 1) runs = this.#mergePass(keys, runs);
  }

  /** Fills `indices` with 0, 1, 2 … and finds where ascending runs begin. */
  #findRuns(keys: Float64Array, count: number): number {
    const indices = this.indices;
    let runs = 0;
    let previous = Number.POSITIVE_INFINITY;
    for (let at = 0; at < count; at++) {
      const key = keys[at]!; // at < count
      if (key < previous || at === 0) runs = this.#beginRun(runs, at);
      previous = key;
      indices[at] = at;
    }
    this.#beginRun(runs, count);
    return runs;
  }

  #beginRun(runs: number, at: number): number {
    if (runs >= this.#runs.length) {
      const larger = new Uint32Array(this.#runs.length * 2);
      larger.set(this.#runs);
      this.#runs = larger;
    }
    this.#runs[runs] = at;
    return runs + 1;
  }

  /** Merges each two neighbouring runs; returns how many are left. */
  #mergePass(keys: Float64Array, runs: number): number {
    const bounds = this.#runs;
    let left = 0;
    for (let run = 0; run < runs; run += 2) {
      const start = bounds[run]!; // run < runs
      const middle = bounds[run + 1]!; // runs + 1 bounds
      const end = run + 2 <= runs ? bounds[run + 2]! : middle; // likewise
      this.#merge(keys, start, middle, end);
      bounds[left++] = start;
    }
    bounds[left] = bounds[runs]!; // the last bound
    [this.indices, this.#spare] = [this.#spare, this.indices];
    return left;
  }

  #merge(keys: Float64Array, start: number, middle: number, end: number): void {
    const from = this.indices;
    const into = this.#spare;
    let left = start;
    let right = middle;
    for (let at = start; at < end; at++) {
      const takeLeft = right >= end || (left < middle && keys[from[left]!]! <= keys[from[right]!]!); // inside both runs
      into[at] = takeLeft ? from[left++]! : from[right++]!; // inside its run
    }
  }
}
