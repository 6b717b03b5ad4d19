/** The kernel's words about a command of ours, told to whoever wrote the definition that it was made of. */

import { parseDefinition } from '../../probe/definition.ts';
import { placeColumns } from '../../probe/place-columns.ts';
import { tokenize } from '../../probe/tokens.ts';
import type { EventPlan } from './command.ts';
import type { LoggedError } from './tracefs.ts';

/** How the kernel says that the fields of an event have no room (EVENT_TOO_BIG, kernel/trace/trace_probe.h). */
const TOO_BIG = /^Event too big/;

/**
 * Why the kernel refuses a command. What a command holds of our own is shown to nobody: the caret is under the
 * person's own word, or there is none.
 * @param text the definition as it was written; none for places that nobody asked for
 */
export function refusedCommand(
  { message, column }: LoggedError,
  command: string,
  plan: EventPlan,
  text: string | undefined,
): string {
  const said = `the kernel says: ${message}`;
  const own = TOO_BIG.test(message) ? `\n  ${ownPart(plan)}` : '';
  const at = text === undefined ? undefined : columnIn(text, command, column, plan);
  if (text === undefined || at === undefined) return `${said}${own}`;
  return `${said}\n  ${text}\n  ${' '.repeat(at)}^${own}`;
}

/** What of an event's room is not the person's. */
function ownPart({ comm, own }: EventPlan): string {
  const uses = [
    'which place it was',
    ...(comm === undefined ? [] : ["the task's name"]),
    ...(own.length === 0 ? [] : ['the pointers on the way to what is fetched']),
  ];
  const bytes = 4 + (comm === undefined ? 0 : 4) + 8 * own.length;
  return `${bytes} bytes of the event's room are Trapline's own: for ${uses.join(', ')}`;
}

/** The person's column for one of a command; undefined where the command's word is ours. */
function columnIn(
  text: string,
  command: string,
  column: number,
  plan: EventPlan,
): number | undefined {
  const [event = '', place = ''] = command.split(' ');
  const word = command.slice(0, column).split(' ').length - 1;
  if (word === 0) return undefined;
  if (word === 1) {
    const { file, offset } = placeColumns(text);
    return column > event.length + 1 + place.lastIndexOf(':') ? offset : file;
  }
  const name = plan.fetched[word - 2 - (plan.comm === undefined ? 1 : 2)]?.name;
  const index = parseDefinition(text).arguments.findIndex((argument) => argument.name === name);
  return tokenize(text).arguments[index]?.column;
}
