/** Names of the addresses in events of type `symbol`, asked for once each, before the events are written. */

import type { EventBatch, EventView, Session } from '../index.ts';

/** Addresses whose names are kept; then all are forgotten. */
const MOST_NAMES = 100_000;

type EventTable = EventBatch['sources'][number]['table'];

/** Names by process and address. */
export class SymbolNames {
  readonly #session: Pick<Session, 'symbolize'>;
  readonly #names = new Map<number, Map<bigint, string | undefined>>();
  readonly #tables = new WeakMap<EventTable, { readonly end: number; readonly holds: boolean }>();
  #count = 0;

  constructor(session: Pick<Session, 'symbolize'>) {
    this.#session = session;
  }

  /** The name of an address, once it was learnt. */
  find(pid: number, address: bigint): string | undefined {
    return this.#names.get(pid)?.get(address);
  }

  /** Asks for the names that a batch needs. */
  async learn(batch: EventBatch): Promise<void> {
    if (!batch.sources.some(({ table }) => this.#mayHold(table))) return;
    const unknown = new Map<number, Set<bigint>>();
    batch.forEach((event) => {
      for (const address of addressesIn(event)) {
        if (this.#names.get(event.pid)?.has(address) === true) continue;
        unknown.set(event.pid, (unknown.get(event.pid) ?? new Set()).add(address));
      }
    });
    for (const [pid, addresses] of unknown) await this.#ask(pid, [...addresses]);
  }

  /** Whether an event of a source has such a field: looked up again only when it has more events. */
  #mayHold(table: EventTable): boolean {
    let known = this.#tables.get(table);
    if (known === undefined || known.end !== table.end) {
      const layouts = Array.from(table.entries(), ([, { layout }]) => layout);
      const holds = layouts.some(({ fields }) => fields.some(({ type }) => type === 'symbol'));
      known = { end: table.end, holds };
      this.#tables.set(table, known);
    }
    return known.holds;
  }

  async #ask(pid: number, addresses: readonly bigint[]): Promise<void> {
    this.#count += addresses.length;
    if (this.#count > MOST_NAMES) {
      this.#names.clear();
      this.#count = addresses.length;
    }
    const found = await this.#session.symbolize(pid, addresses);
    const names = this.#names.get(pid) ?? new Map<bigint, string | undefined>();
    addresses.forEach((address, at) => names.set(address, found[at]));
    this.#names.set(pid, names);
  }
}

function addressesIn(event: EventView): bigint[] {
  return event.fields.flatMap(({ type, count = 1 }, field) => {
    if (type !== 'symbol' || event.isFault(field)) return [];
    return Array.from({ length: count }, (_, element) => event.bigint(field, element));
  });
}
