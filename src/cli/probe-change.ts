/** What becomes of the probes of a file when its lines change: all of it, or nothing. */

import type { AddedProbe, ListedProbe, ProbeRequest, Session } from '../index.ts';

/** What is needed of a session. */
export type ChangedSession = Pick<Session, 'probes' | 'add' | 'remove'>;

/** A line that is gone, with its probe. */
export interface GoneProbe {
  readonly line: ListedProbe;
  readonly probe: AddedProbe;
}

/** What is to change. */
export interface Change {
  readonly gone: readonly GoneProbe[];
  readonly news: readonly ListedProbe[];
  readonly requestOf: (line: ListedProbe) => ProbeRequest;
}

/** What a change came to. */
export interface Changed {
  readonly added: readonly ListedProbe[];
  readonly removed: readonly ListedProbe[];
  /** What went wrong; where something can't be added, nothing is. */
  readonly problems: readonly unknown[];
}

/**
 * Adds the probes of new lines and takes out those of lines that are gone, if all of the new ones can be added. First in, then
 * out: a mistake costs no probe that is there a hit. Only where a new one could not have its event's name before another
 * is out, that one goes first, and comes back if it has to.
 */
export async function change(
  session: ChangedSession,
  { gone, news, requestOf }: Change,
): Promise<Changed> {
  const wanted = new EventNames(news);
  const inTheWay = gone.filter(({ line }) => wanted.mayHave(line));
  const taken = new EventNames(inTheWay.map(({ line }) => line));
  const isLate = (one: ListedProbe): boolean => taken.mayHave(one);
  const add = (line: ListedProbe): Promise<AddedProbe> => session.add(requestOf(line));
  const take = ({ probe }: GoneProbe): Promise<void> => session.remove(probe);

  const early = await each(
    news.filter((one) => !isLate(one)),
    add,
  );
  if (early.problems.length > 0) return takeBack(session, early);
  const first = await each(inTheWay, take);
  const late = await each(news.filter(isLate), add);
  if (late.problems.length > 0) {
    const undone = await takeBack(session, early, late);
    const back = await each(inTheWay, ({ line }) => add(line));
    const returned = new Set(back.done.map(({ item }) => item));
    const lost = inTheWay.filter((one) => !returned.has(one)).map(({ line }) => line);
    return { ...undone, removed: lost, problems: [...undone.problems, ...back.problems] };
  }
  const last = await each(
    gone.filter((one) => !inTheWay.includes(one)),
    take,
  );
  return {
    added: news,
    removed: gone.map(({ line }) => line),
    problems: [...first.problems, ...last.problems],
  };
}

/** The events that some lines may have: there may be thousands on either side. */
class EventNames {
  readonly #names: ReadonlySet<string>;
  readonly #groups: ReadonlySet<string>;

  constructor(lines: readonly ListedProbe[]) {
    this.#names = new Set(lines.map(({ events }) => events));
    this.#groups = new Set(lines.map(({ events }) => groupOf(events)));
  }

  /** Whether another line may want one of the same name. */
  mayHave({ events }: ListedProbe): boolean {
    const any = anyOf(groupOf(events));
    if (events === any) return this.#groups.has(groupOf(events));
    return this.#names.has(events) || this.#names.has(any);
  }
}

function groupOf(events: string): string {
  return events.slice(0, events.indexOf('/'));
}

/** As `ListedProbe.events` has it for a glob. */
function anyOf(group: string): string {
  return `${group}/*`;
}

interface Done<Item, Result> {
  readonly done: readonly { readonly item: Item; readonly result: Result }[];
  readonly problems: readonly unknown[];
}

/** Does one after another, whatever becomes of the others: each mistake is told. */
async function each<Item, Result>(
  items: readonly Item[],
  act: (item: Item) => Promise<Result>,
): Promise<Done<Item, Result>> {
  const done: { item: Item; result: Result }[] = [];
  const problems: unknown[] = [];
  for (const item of items) {
    try {
      done.push({ item, result: await act(item) });
    } catch (error) {
      problems.push(error);
    }
  }
  return { done, problems };
}

/** Takes out what was added beside something that could not be. */
async function takeBack(
  session: ChangedSession,
  ...tried: readonly Done<ListedProbe, AddedProbe>[]
): Promise<Changed> {
  const added = tried.flatMap(({ done }) => done);
  const taken = await each(added, ({ result }) => session.remove(result));
  const problems = [...tried.flatMap((one) => one.problems), ...taken.problems];
  return { added: [], removed: [], problems };
}
