/** `trapline doctor`: what works here, for whom, what is missing, and how to get it. */

import { doctor, type DoctorReport, type Finding } from '../index.ts';
import { PLAIN, painterFor, type Painter } from '../screen/colour.ts';
import { jsonText, printable } from '../base/text.ts';
import { ExitStatus, writeAll } from './messages.ts';

/** Examines this machine for this user. @returns 0 if Trapline can work here, else 1. */
export async function examine(json: boolean): Promise<number> {
  const report = await doctor();
  const lines = json ? [jsonText(report)] : renderDoctor(report, painterFor(process.stdout));
  writeAll(1, `${lines.join('\n')}\n`);
  return report.works ? ExitStatus.good : ExitStatus.error;
}

/** The report as lines: each finding, what it means below it. */
export function renderDoctor(report: DoctorReport, paint: Painter = PLAIN): string[] {
  const width = Math.max(0, ...report.findings.map(({ topic }) => topic.length));
  const verdict = report.works
    ? paint.green('Trapline can work here.')
    : paint.red('Trapline can not work here: see what is marked MISSING.');
  return [
    ...report.findings.flatMap((finding) => renderFinding(finding, width, paint)),
    '',
    verdict,
    '',
    ...report.warnings.flatMap((text) => [`${paint.yellow('mind:')} ${printable(text)}`]),
  ];
}

const MARKS: Readonly<Record<Finding['state'], [keyof Painter, string]>> = {
  good: ['green', 'ok'],
  limited: ['yellow', 'limited'],
  missing: ['red', 'MISSING'],
  note: ['dim', 'note'],
};

function renderFinding(finding: Finding, width: number, paint: Painter): string[] {
  const [style, word] = MARKS[finding.state];
  const indent = ' '.repeat(8 + width + 2);
  return [
    `${paint[style](word.padEnd(8))}${finding.topic.padEnd(width)}  ${printable(finding.found)}`,
    ...(finding.advice ?? []).map((line) => `${indent}${paint.dim(printable(line))}`),
  ];
}
