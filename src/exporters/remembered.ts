/** What is worked out once for each event and each task. */

/** Values by their keys, each made at its first use; kept as long as the key lives. */
export class Remembered<K extends object, V> {
  readonly #make: (key: K) => V;
  readonly #values = new WeakMap<K, V>();
  #lastKey: K | undefined;
  #lastValue: V | undefined;

  constructor(make: (key: K) => V) {
    this.#make = make;
  }

  /** The value of a key. Events in a row are often alike: the same key again costs one comparison. */
  of(key: K): V {
    if (this.#lastKey === key && this.#lastValue !== undefined) return this.#lastValue;
    let value = this.#values.get(key);
    if (value === undefined) {
      value = this.#make(key);
      this.#values.set(key, value);
    }
    this.#lastKey = key;
    this.#lastValue = value;
    return value;
  }
}
