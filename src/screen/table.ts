/** Tables of aligned columns. */

import type { Paint } from './colour.ts';
import { formatCount } from './numbers.ts';
import { printable, widthOf } from '../base/text.ts';

/** What stands in one place of a table. Numbers are written with commas between thousands. */
export type Cell = string | number | bigint | undefined;

/** One column of a table. */
export interface Column {
  readonly heading: string;
  /** Right where every cell is a number or empty (and one is a number), else left, if not given. */
  readonly align?: 'left' | 'right';
  /** Styles the cells' text, not the space around it. Without it there are no colours. */
  readonly paint?: Paint;
}

/** How a table looks. */
export interface TableStyle {
  /** Written before each line. */
  readonly indent?: string;
  /** Styles the headings. */
  readonly paintHeading?: Paint;
}

const GAP = '  ';

/**
 * Lays out a table: headings, unless all are empty, then the rows; columns two spaces apart, as wide as
 * their widest cell. Control characters are made visible.
 * @param rows each with a cell for each column; missing ones are empty, further ones are ignored.
 * @returns one string a line, without line ends and without spaces at the end.
 */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  style: TableStyle = {},
): string[] {
  const body = rows.map((row) => columns.map((_, index) => cellText(row[index])));
  const headings = columns.map((column) => printable(column.heading));
  const hasHeadings = headings.some((heading) => heading !== '');
  const widths = columns.map((_, index) =>
    [headings, ...body].reduce((widest, row) => Math.max(widest, widthOf(row[index] ?? '')), 0),
  );
  const right = columns.map((column, index) =>
    column.align === undefined ? isNumeric(rows, index) : column.align === 'right',
  );
  const line = (texts: readonly string[], paints: readonly (Paint | undefined)[]): string => {
    const cells = texts.map((text, index) => {
      const space = ' '.repeat(Math.max(0, (widths[index] ?? 0) - widthOf(text)));
      const painted = text === '' ? '' : (paints[index]?.(text) ?? text);
      return right[index] === true ? space + painted : painted + space;
    });
    return ((style.indent ?? '') + cells.join(GAP)).trimEnd();
  };
  const cellPaints = columns.map((column) => column.paint);
  const headingPaints = columns.map(() => style.paintHeading);
  return [
    ...(hasHeadings ? [line(headings, headingPaints)] : []),
    ...body.map((row) => line(row, cellPaints)),
  ];
}

function cellText(cell: Cell): string {
  if (cell === undefined) return '';
  return typeof cell === 'string' ? printable(cell) : formatCount(cell);
}

function isNumeric(rows: readonly (readonly Cell[])[], index: number): boolean {
  const cells = rows.map((row) => row[index]).filter((cell) => cell !== undefined && cell !== '');
  return cells.length > 0 && cells.every((cell) => typeof cell !== 'string');
}
