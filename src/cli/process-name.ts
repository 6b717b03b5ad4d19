/** How a process is called where people read it. */

import { printable } from '../base/text.ts';

/** What is shown of a process. */
export interface ShownProcess {
  readonly comm: string;
  readonly pid: number;
  readonly namespacePid?: number;
}

/** `nginx (4321)`; of one in a container `nginx (4321, there 7)`: by our number, and by that of its own pid namespace. */
export function processName({ comm, pid, namespacePid }: ShownProcess): string {
  return `${printable(comm)} (${pid}${namespacePid === undefined ? '' : `, there ${namespacePid}`})`;
}
