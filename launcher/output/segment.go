package output

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// segment is one file of a log. The last one is written to, the others are whole.
type segment struct {
	number  int
	file    *os.File
	size    int64
	readers int  // that are in it
	dropped bool // no longer the log's: closed with its last reader
}

// segmentPath names the file of a number: the first has the log's own name.
func segmentPath(path string, number int) string {
	if number == 0 {
		return path
	}
	return path + "." + strconv.Itoa(number)
}

// segmentNumbers lists the files that a log has, in order.
func segmentNumbers(path string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(path))
		if !ok {
			continue
		}
		if rest == "" {
			numbers = append(numbers, 0)
			continue
		}
		n, err := strconv.Atoi(strings.TrimPrefix(rest, "."))
		if err == nil && n > 0 && rest == "."+strconv.Itoa(n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func openSegment(path string, number int) (*segment, error) {
	f, err := os.OpenFile(segmentPath(path, number), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &segment{number: number, file: f, size: info.Size()}, nil
}

// scan calls note for each whole record, and returns where those end.
func (s *segment) scan(note func(Record) error) (end int64, err error) {
	for {
		r, next, err := readRecord(s.file, end)
		if err == nil {
			err = note(r)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, errDamaged):
			return end, nil
		case err != nil:
			return end, err
		}
		end = next
	}
}

// append writes a record at the end.
func (s *segment) append(r Record) error {
	n, err := s.file.WriteAt(r.encode(), s.size)
	if err != nil {
		// What was written of it must not stand before the next record.
		return errors.Join(fmt.Errorf("write log: %w", err), s.file.Truncate(s.size))
	}
	s.size += int64(n)
	return nil
}
