/** What sessions have in the kernel, living and dead, and taking out what dead ones left. */

import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import { messageOf, TraplineError } from '../../base/errors.ts';
import { isScratch } from './command.ts';
import { removeInstance } from './instance.ts';
import { isOwnerAlive, parseName } from './session-name.ts';
import { attempt, readText, writeCommand } from './tracefs.ts';

/** What one session has in the kernel. */
export interface KernelHolding {
  /** Of its group of events; its tracing instances begin with it. */
  readonly name: string;
  /** The process that made it. */
  readonly pid: number;
  readonly alive: boolean;
  readonly events: readonly string[];
  /** Places that are probed. */
  readonly places: number;
}

/** What was done about one dead session. */
export interface KernelCleaning {
  readonly name: string;
  readonly eventsRemoved: number;
  /** What stays, and why. */
  readonly kept: readonly string[];
}

/** All that sessions of Trapline have in the kernel. @throws TraplineError `system`. */
export function findHoldings(tracefs: string): KernelHolding[] {
  const found = new Map<string, { events: Set<string>; places: number }>();
  const of = (name: string): { events: Set<string>; places: number } => {
    const known = found.get(name) ?? { events: new Set(), places: 0 };
    found.set(name, known);
    return known;
  };
  for (const line of readText(join(tracefs, 'uprobe_events')).split('\n')) {
    const [, group, event] = /^[pr]\d*:([^/\s]+)\/(\S+) /.exec(line) ?? [];
    if (group === undefined || event === undefined || parseName(group) === undefined) continue;
    const holding = of(group);
    holding.events.add(event);
    if (!isScratch(line)) holding.places++;
  }
  const folder = join(tracefs, 'instances');
  for (const name of attempt(`read ${folder}`, () => readdirSync(folder))) {
    const session = parseName(name)?.session;
    if (session !== undefined) of(session);
  }
  return [...found].flatMap(([name, { events, places }]) => {
    const owner = parseName(name);
    if (owner === undefined) return [];
    return { name, pid: owner.pid, alive: isOwnerAlive(owner), events: [...events], places };
  });
}

/** Removes what dead sessions left. */
export function cleanHoldings(tracefs: string): KernelCleaning[] {
  return findHoldings(tracefs)
    .filter(({ alive }) => !alive)
    .map((holding) => cleanOne(tracefs, holding));
}

function cleanOne(tracefs: string, { name }: KernelHolding): KernelCleaning {
  return { name, ...removeSession(tracefs, name) };
}

/** Removes all that one session has in the kernel, ours or a dead one's. */
export function removeSession(tracefs: string, name: string): Omit<KernelCleaning, 'name'> {
  const kept: string[] = [];
  let eventsRemoved = 0;
  const tried = (action: () => void): boolean => {
    try {
      action();
      return true;
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      // Somebody else cleans at the same time.
      if (error.errno !== 'ENOENT') kept.push(messageOf(error));
      return false;
    }
  };
  // With the instances their events are off. Before them: removing an event that was on would empty them.
  const folder = join(tracefs, 'instances');
  for (const instance of attempt(`read ${folder}`, () => readdirSync(folder))) {
    if (parseName(instance)?.session !== name) continue;
    tried(() => removeInstance(tracefs, join(folder, instance)));
  }
  const held = findHoldings(tracefs).find((holding) => holding.name === name);
  for (const event of held?.events ?? []) {
    if (tried(() => writeCommand(join(tracefs, 'uprobe_events'), `-:${name}/${event}`))) {
      eventsRemoved++;
    }
  }
  return { eventsRemoved, kept };
}
