/** The memory of the bell's thread, from our side: its code, the page that it shares with us, and tables. */

import { address, type Address } from '../../base/brand.ts';
import { DisposableStack } from '../../base/dispose.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import { FUTEX_WORD, wakeAll } from '../../sys/futex.ts';
import { mapMemory, Protection, type Mapping } from '../../sys/mapping.ts';
import { bellCode, BellPage, BellTable } from './code.ts';

const NAME = 'trapline-bell';
/** A target that announces on and on gets no more of us than a look so often, in nanoseconds. */
const PAUSE = 500_000n;
/** Where the kernel can't wait for words, or not for so many, they are looked at so often, in nanoseconds. */
const POLL = 10_000_000n;

/** A table that the thread may look at until it has taken notice of a number. */
interface OldTable {
  readonly table: Mapping;
  readonly until: number;
}

/** Made before the thread, disposed when it has ended. */
export class BellMemory implements Disposable {
  readonly #resources: DisposableStack;
  readonly #code: Mapping;
  readonly #page: Mapping;
  readonly #words: Int32Array;
  readonly #longs: BigUint64Array;
  #table: Mapping;
  #oldTables: OldTable[] = [];

  /**
   * @param writer the descriptor that the thread writes to
   * @throws TraplineError `system` where there is no memory, or none may be executed.
   */
  constructor(writer: number) {
    using resources = new DisposableStack();
    this.#code = resources.use(mapMemory(PAGE_BYTES));
    new Uint8Array(this.#code.view).set(bellCode(this.#code.address));
    this.#code.protect(Protection.read | Protection.execute);
    this.#page = resources.use(mapMemory(PAGE_BYTES));
    this.#words = new Int32Array(this.#page.view);
    this.#longs = new BigUint64Array(this.#page.view);
    this.#words[BellPage.writer / 4] = writer;
    this.#longs.set([0n, PAUSE], BellPage.pause / 8);
    this.#longs.set([0n, POLL], BellPage.poll / 8);
    Buffer.from(this.#page.view).write(NAME, BellPage.name, 'latin1');
    this.#table = this.#makeTable([]);
    this.#longs[BellPage.table / 8] = this.#table.address;
    this.#resources = resources.move();
  }

  /** A C function, for {@link page}. */
  get code(): Address {
    return this.#code.address;
  }

  get page(): Address {
    return this.#page.address;
  }

  /**
   * Has the thread watch these words, and no others.
   * @returns the number for {@link hasTaken}
   */
  watch(words: Iterable<Address>): number {
    const old = this.#table;
    this.#table = this.#makeTable([...words]);
    this.#longs[BellPage.table / 8] = this.#table.address;
    const until = this.#wake();
    this.#oldTables.push({ table: old, until });
    return until;
  }

  /** Has the thread end. */
  end(): void {
    this.#words[BellPage.isEnding / 4] = 1;
    this.#wake();
  }

  /** Whether the thread has taken notice of what had this number: it looks at nothing older. */
  hasTaken(number: number): boolean {
    // Numbers of 32 bits that go round.
    return ((Atomics.load(this.#words, BellPage.taken / 4) - number) | 0) >= 0;
  }

  /** Gives back the tables that the thread does not look at any more. */
  releaseOldTables(): void {
    const isOld = ({ until }: OldTable): boolean => this.hasTaken(until);
    for (const { table } of this.#oldTables.filter(isOld)) table[Symbol.dispose]();
    this.#oldTables = this.#oldTables.filter((one) => !isOld(one));
  }

  [Symbol.dispose](): void {
    for (const { table } of this.#oldTables) table[Symbol.dispose]();
    this.#oldTables = [];
    this.#table[Symbol.dispose]();
    this.#resources[Symbol.dispose]();
  }

  /** What was written before it is seen by who sees the number. @returns the number */
  #wake(): number {
    const number = (Atomics.add(this.#words, BellPage.number / 4, 1) + 1) | 0;
    wakeAll(this.#page.address);
    return number;
  }

  #makeTable(words: readonly Address[]): Mapping {
    const all = [address(this.#page.address + BigInt(BellPage.number)), ...words];
    const table = mapMemory(BellTable.entries + all.length * BellTable.entryBytes);
    const view = new DataView(table.view);
    view.setUint32(0, all.length, true);
    for (const [index, word] of all.entries()) {
      const at = BellTable.entries + index * BellTable.entryBytes;
      view.setBigUint64(at + BellTable.address, word, true);
      view.setUint32(at + BellTable.flags, FUTEX_WORD, true);
    }
    return table;
  }
}
