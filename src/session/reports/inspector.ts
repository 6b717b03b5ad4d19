/** What is asked of the tracer outside of its session: of processes, files and the kernel as they are. */

import { address, pid as brandPid } from '../../base/brand.ts';
import { cleanHoldings, findHoldings } from '../../engines/kernel/leftovers.ts';
import { usableTracefs } from '../../engines/kernel/tracefs.ts';
import { FileCache } from '../files/files.ts';
import { listFile } from '../files/list-file.ts';
import { symbolize } from '../files/symbolize.ts';
import type { TracerMethods } from '../protocol.ts';
import type { ExplainRequest, Explanation, FunctionList, ListRequest } from '../types.ts';
import { cleanProcesses } from './cleaning.ts';
import { explainProbe } from './explain.ts';
import { describeProcesses } from './leftovers.ts';

/** Looks and tells; what it takes out of processes is what no session has any more. */
export class Inspector {
  /** What is known of files, for as long as the tracer lives. */
  protected readonly files: FileCache = new FileCache();

  status(pids: readonly number[] | undefined): ReturnType<TracerMethods['status']> {
    return describeProcesses(pids, this.files);
  }

  clean(pids: readonly number[] | undefined): ReturnType<TracerMethods['clean']> {
    return cleanProcesses(pids, this.files);
  }

  kernelStatus(): ReturnType<TracerMethods['kernelStatus']> {
    const tracefs = usableTracefs();
    return tracefs === undefined ? [] : findHoldings(tracefs);
  }

  kernelClean(): ReturnType<TracerMethods['kernelClean']> {
    const tracefs = usableTracefs();
    return tracefs === undefined ? [] : cleanHoldings(tracefs);
  }

  explain(definition: string, request: ExplainRequest): Explanation[] {
    return explainProbe(definition, request, this.files);
  }

  list(file: string, request: ListRequest): FunctionList {
    return listFile(file, request);
  }

  symbolize(pid: number, addresses: readonly bigint[]): readonly (string | undefined)[] {
    const places = addresses.map((each) => address(each));
    return symbolize(brandPid(pid), places, this.files);
  }
}
