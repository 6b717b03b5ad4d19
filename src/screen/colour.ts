/** Colours for a terminal, and none for everything else. */

import picocolors from 'picocolors';

/** Puts a style around a text; where colours are off, returns the text as it is. */
export type Paint = (text: string) => string;

/** The styles that Trapline's commands use. */
export interface Painter {
  readonly bold: Paint;
  readonly dim: Paint;
  readonly red: Paint;
  readonly green: Paint;
  readonly yellow: Paint;
  readonly cyan: Paint;
}

/** What must be known of a stream: `process.stdout` and `process.stderr` fit. */
export interface MaybeTerminal {
  readonly isTTY?: boolean;
}

/** The variables that are looked at. */
export type Environment = Readonly<Record<string, string | undefined>>;

const plain: Paint = (text) => text;

/** Paints nothing. */
export const PLAIN: Painter = {
  bold: plain,
  dim: plain,
  red: plain,
  green: plain,
  yellow: plain,
  cyan: plain,
};

/**
 * Chooses the painter for a stream: colours on a terminal that is not `TERM=dumb`, unless `NO_COLOR` is
 * set to anything but nothing (no-color.org). No other variable and no option of ours changes it.
 */
export function painterFor(stream: MaybeTerminal, environment: Environment = process.env): Painter {
  const forbidden = (environment['NO_COLOR'] ?? '') !== '' || environment['TERM'] === 'dumb';
  if (stream.isTTY !== true || forbidden) return PLAIN;
  const colours = picocolors.createColors(true);
  return {
    bold: colours.bold,
    dim: colours.dim,
    red: colours.red,
    green: colours.green,
    yellow: colours.yellow,
    cyan: colours.cyan,
  };
}
