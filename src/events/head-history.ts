/** When a ring's head was seen where: how old, at least, a reservation is that stands behind it. */

/** Heads closer together in time than this are one, in milliseconds. */
const GRAIN = 20;

/** The heads of one ring since everything in it was last read. */
export class HeadHistory {
  readonly #seen: { readonly head: number; readonly at: number }[] = [];

  /** Notes the head that a scan has read. The head may have moved back since: see RingPositions. */
  note(head: number, nowMilliseconds: number): void {
    while ((this.#seen.at(-1)?.head ?? 0) > head) this.#seen.pop();
    const last = this.#seen.at(-1);
    if (last !== undefined && (last.head === head || nowMilliseconds - last.at < GRAIN)) return;
    this.#seen.push({ head, at: nowMilliseconds });
  }

  /** Everything was read, up to a position. */
  forget(position: number): void {
    while (this.#seen.length > 0 && (this.#seen[0]?.head ?? 0) <= position) this.#seen.shift();
  }

  /** Since when, at the latest, a position has been reserved, as far as scans can tell. */
  since(position: number, nowMilliseconds: number): number {
    return this.#seen.find(({ head }) => head > position)?.at ?? nowMilliseconds;
  }
}
