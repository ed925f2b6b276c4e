package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A clock is the CPU time something has used so far.
type clock func() (time.Duration, error)

// processClock is the CPU time of a process with all its threads, those that
// have ended too. /proc/PID/stat has it in steps of 10 ms; the kernel's CPU
// clock of the process (see clock_getcpuclockid) in nanoseconds.
func processClock(pid int) clock { return kernelClock(^pid<<3 | 2) }

// threadClock is the CPU time of one thread of this process.
func threadClock(tid int) clock { return kernelClock(^tid<<3 | 6) }

// ownClock is the CPU time of this process.
func ownClock() clock { return kernelClock(unix.CLOCK_PROCESS_CPUTIME_ID) }

func kernelClock(id int) clock {
	return func() (time.Duration, error) {
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(id), &ts); err != nil {
			return 0, fmt.Errorf("bench: CPU time of the server: %w", err)
		}
		return time.Duration(ts.Nano()), nil
	}
}

// rssAnon is the memory a process has touched for itself, in bytes: heap,
// stacks and tables, without the files mapped.
func rssAnon(pid int) (float64, error) {
	kb, err := procNumber(fmt.Sprintf("/proc/%d/status", pid), "RssAnon:", 0)
	return kb * 1024, err
}

// slab is the kernel's memory for its small objects (sockets, files, inodes) on
// the whole machine, in bytes.
func slab() (float64, error) {
	kb, err := procNumber("/proc/meminfo", "Slab:", 0)
	return kb * 1024, err
}

// socketMemory is the kernel's memory for what TCP sockets hold, in bytes.
func socketMemory() (float64, error) {
	pages, err := procNumber("/proc/net/sockstat", "TCP:", 9) // inuse N orphan N tw N alloc N mem N
	return pages * float64(os.Getpagesize()), err
}

// procNumber is the i-th word after key, at the beginning of a line, in a file
// of /proc.
func procNumber(file, key string, i int) (float64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) > i+1 && string(f[0]) == key {
			v, err := strconv.ParseFloat(string(f[i+1]), 64)
			if err != nil {
				return 0, fmt.Errorf("bench: %s: %w", file, err)
			}
			return v, nil
		}
	}
	return 0, fmt.Errorf("bench: %s has no %s", file, key)
}
