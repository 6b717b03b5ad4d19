/** What is said about a definition that can't be accepted, and where the caret goes. */

import { TraplineError } from '../base/errors.ts';

/**
 * The classes of refusal. The wording of those that the kernel has too is the kernel's own (the ERRORS
 * table of kernel/trace/trace_probe.h), so that who knows its `error_log` knows ours.
 */
export const REFUSALS = {
  // The kernel's.
  badOffset: 'Invalid uprobe offset',
  retvalOnProbe: '$retval is not available on probe',
  badStackNumber: 'Invalid stack number',
  badArgumentNumber: 'Invalid argument number',
  badVariable: 'Invalid $-variable specified',
  badRegister: 'Invalid register name',
  tooManyDereferences: 'Dereference is too much nested',
  dereferenceNeedsBrace: 'Dereference needs a brace',
  badDereferenceOffset: 'Invalid dereference offset',
  dereferenceOpen: 'Dereference brace is not closed',
  commDereferenced: '$comm can not be dereferenced',
  badFetch: 'Invalid fetch argument',
  badType: 'Unknown type is specified',
  stringOfRegister: 'String accepts only memory argument',
  needsString: '$comm and immediate-string only accepts string type',
  argumentNameTooLong: 'Argument name is too long',
  noArgumentName: 'Argument name is not specified',
  badArgumentName: 'Argument name must follow the same rules as C identifiers',
  usedArgumentName: 'This argument name is already used',
  argumentTooLong: 'Argument expression is too long',
  noArgumentBody: 'No argument expression',
  tooManyArguments: 'Too many arguments are specified',
  // Ours: the kernel's language has no functions, files by name or quotes.
  empty: 'The probe is not specified',
  noFile: 'The file is not specified',
  noFunction: 'The function is not specified',
  noLocation: 'The probe names no file',
  colonInFile: "A ':' in the name of a file must stand in quotes",
  quoteOpen: 'The quote is not closed',
  escapeOpen: 'Nothing follows the backslash',
  nulCharacter: 'A NUL character is not possible here',
  // What the kernel's language has, and this version has not.
  laterFetch: 'This kind of fetch argument is not supported yet',
  laterType: 'This type is not supported yet',
  laterArray: 'Arrays are not supported yet',
  laterFilter: 'Event filters are not supported yet',
  laterReturn: 'Return probes are not supported yet',
  laterReference: 'Reference counters are not supported yet',
  laterAddress: 'Addresses and inodes are not supported yet as a location',
} as const;

/** The name of a class of refusal. */
export type Refusal = keyof typeof REFUSALS;

/**
 * Makes the error for a definition that is refused.
 * @param text the whole definition, as it was written.
 * @param column index in `text` of the first offending character; `text.length` where something is
 * missing at its end.
 * @returns an error with code `bad-definition`, to be thrown.
 */
export function refusal(text: string, column: number, what: Refusal, hint?: string): TraplineError {
  return new TraplineError({
    code: 'bad-definition',
    message: REFUSALS[what],
    position: { text, column },
    ...(hint === undefined ? {} : { hint }),
  });
}
