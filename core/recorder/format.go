package recorder

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
	"unsafe"
)

// A segment file is a head, then blocks, then (once sealed) a foot, which is a block too. All numbers little-endian.
//
//	head   magic 8 | version 4 | 0 4 | incarnation 16 | number 8 | created µs 8 | marker 8 | crc32c of those 4 | 0 4
//	block  marker 8 | payload length 4 | records 4 | lines 4 | crc32c of length, counts and payload 4 | payload
//	foot   payload: recSeal 1 | blocks 4 | records 8 | lines 8 | oldest µs 8 | n 4 | n index entries of 24 | foot length 4
//
// The marker is random per segment and unknown to tasks, so that no log line can pass for a block when a reader looks
// for the next one after a damaged place. A block carries its own table of origins: each can be read alone.
const (
	formatVersion = 2 // since records 9 to 12; what version 1 wrote is read too
	oldestVersion = 1
	headSize      = 64
	blockHead     = 24
	blockBytes    = 64 << 10 // a block is closed once its payload is this long
	entrySize     = 24
	footFixed     = 1 + 4 + 8 + 8 + 8 + 4 + 4
	maxFile       = 1 << 30 // a longer file cannot be ours
)

var magic = [8]byte{'G', 'N', 'O', 'M', 'S', 'P', 'O', 'L'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errNotOurs    = errors.New("the file does not begin like a segment of a spool")
	errHeadDamage = errors.New("the head of the segment is damaged")
	errNewer      = errors.New("the segment was written by a newer version of this program")
	errNoFoot     = errors.New("the segment has lost its end")
)

type head struct {
	incarnation [16]byte // random per start of a recorder, so that a number used twice (a restored copy) is not an ID used twice
	number      uint64
	created     time.Time
	marker      uint64
}

func (h *head) id() string {
	return fmt.Sprintf("%s-%012d", hex.EncodeToString(h.incarnation[:]), h.number)
}

func (h *head) bytes() []byte {
	b := append(make([]byte, 0, headSize), magic[:]...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, h.incarnation[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.number)
	b = appendTime(b, h.created)
	b = binary.LittleEndian.AppendUint64(b, h.marker)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return binary.LittleEndian.AppendUint32(b, 0)
}

func parseHead(b []byte) (head, error) {
	if len(b) < headSize || !bytes.Equal(b[:8], magic[:]) {
		return head{}, errNotOurs
	}
	if crc32.Checksum(b[:56], castagnoli) != binary.LittleEndian.Uint32(b[56:]) {
		return head{}, errHeadDamage
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v < oldestVersion || v > formatVersion {
		return head{}, errNewer
	}
	h := head{number: binary.LittleEndian.Uint64(b[32:]), created: time.UnixMicro(int64(binary.LittleEndian.Uint64(b[40:]))).UTC(),
		marker: binary.LittleEndian.Uint64(b[48:])}
	copy(h.incarnation[:], b[16:32])
	return h, nil
}

// stampBlock completes the head of the block that is the whole of b, whose length and counts are already set.
func stampBlock(b []byte, marker uint64) {
	binary.LittleEndian.PutUint64(b, marker)
	binary.LittleEndian.PutUint32(b[20:], blockSum(b))
}

func blockSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[8:20], castagnoli), castagnoli, b[blockHead:])
}

// blockAt gives the whole block at the start of b, or nil if there is none with this marker and a right checksum.
func blockAt(b []byte, marker uint64) []byte {
	if len(b) < blockHead || binary.LittleEndian.Uint64(b) != marker {
		return nil
	}
	n := uint64(binary.LittleEndian.Uint32(b[8:]))
	if n > uint64(len(b)-blockHead) {
		return nil
	}
	b = b[:blockHead+int(n)]
	if blockSum(b) != binary.LittleEndian.Uint32(b[20:]) {
		return nil
	}
	return b
}

func blockRecords(b []byte) int { return int(binary.LittleEndian.Uint32(b[12:])) }
func blockLines(b []byte) int   { return int(binary.LittleEndian.Uint32(b[16:])) }

// text gives b as a string without a copy; nobody changes b afterwards.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// scanned is what walking over a segment found.
type scanned struct {
	end       int  // where the last good block ends
	badPlaces int  // damaged places with a good block after them
	badBytes  int  // their length
	tail      int  // bytes after end that are no block: a torn write
	sealed    bool // the last good block is the foot
	foot      foot
}

// scan calls visit for each good block of a segment in order, going on after damaged places.
func scan(data []byte, marker uint64, visit func(at int, block []byte) error) (scanned, error) {
	s := scanned{end: headSize}
	var mark [8]byte
	binary.LittleEndian.PutUint64(mark[:], marker)
	for at := headSize; at < len(data); {
		b := blockAt(data[at:], marker)
		if b == nil {
			next := bytes.Index(data[at+1:], mark[:])
			if next < 0 {
				break
			}
			at += 1 + next
			continue
		}
		if at > s.end {
			s.badPlaces++
			s.badBytes += at - s.end
		}
		s.sealed = false
		if len(b) > blockHead && b[blockHead] == recSeal {
			f, err := parseFoot(b)
			if err == nil {
				s.sealed, s.foot = true, f
			}
		} else if err := visit(at, b); err != nil {
			return s, err
		}
		at += len(b)
		s.end = at
	}
	s.tail = len(data) - s.end
	return s, nil
}

// entry says that a block holds lines of an attempt of the run with this hash, the first of them numbered firstSeq.
type entry struct {
	run      uint64
	block    uint32 // offset in the file
	attempt  int32
	firstSeq uint64
}

func compareEntries(a, b entry) int {
	return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.attempt, b.attempt), cmp.Compare(a.firstSeq, b.firstSeq),
		cmp.Compare(a.block, b.block))
}

// hashRun is FNV-1a: stable across processes, because the foot of a segment keeps it.
func hashRun(id string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(id); i++ {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return h
}

// fingerprints gives what is kept in memory of a sealed segment's index: enough to skip it without opening it.
func fingerprints(entries []entry) []uint32 {
	out := make([]uint32, 0, len(entries))
	for _, e := range entries {
		out = append(out, uint32(e.run>>32))
	}
	slices.Sort(out)
	return slices.Clip(slices.Compact(out))
}

// foot is the summary at the end of a sealed segment.
type foot struct {
	blocks  uint32
	records uint64
	lines   uint64
	oldest  time.Time // when the oldest record of the segment was said
	entries []entry   // sorted
}

func (f *foot) size() int64 { return int64(blockHead + footFixed + len(f.entries)*entrySize) }

func (f *foot) bytes(marker uint64) []byte {
	n := int(f.size())
	b := make([]byte, blockHead, n)
	b = append(b, recSeal)
	b = binary.LittleEndian.AppendUint32(b, f.blocks)
	b = binary.LittleEndian.AppendUint64(b, f.records)
	b = binary.LittleEndian.AppendUint64(b, f.lines)
	b = appendTime(b, f.oldest)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.entries)))
	for _, e := range f.entries {
		b = binary.LittleEndian.AppendUint64(b, e.run)
		b = binary.LittleEndian.AppendUint32(b, e.block)
		b = binary.LittleEndian.AppendUint32(b, uint32(e.attempt))
		b = binary.LittleEndian.AppendUint64(b, e.firstSeq)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	binary.LittleEndian.PutUint32(b[8:], uint32(n-blockHead))
	stampBlock(b, marker)
	return b
}

// parseFoot reads a foot out of a block whose checksum is right.
func parseFoot(b []byte) (foot, error) {
	p := b[blockHead:]
	if len(p) < footFixed || p[0] != recSeal {
		return foot{}, errNoFoot
	}
	f := foot{blocks: binary.LittleEndian.Uint32(p[1:]), records: binary.LittleEndian.Uint64(p[5:]),
		lines: binary.LittleEndian.Uint64(p[13:]), oldest: time.UnixMicro(int64(binary.LittleEndian.Uint64(p[21:]))).UTC()}
	n := int(binary.LittleEndian.Uint32(p[29:]))
	if len(p) != footFixed+n*entrySize {
		return foot{}, errNoFoot
	}
	p = p[33:]
	f.entries = make([]entry, n)
	for i := range f.entries {
		q := p[i*entrySize:]
		f.entries[i] = entry{run: binary.LittleEndian.Uint64(q), block: binary.LittleEndian.Uint32(q[8:]),
			attempt: int32(binary.LittleEndian.Uint32(q[12:])), firstSeq: binary.LittleEndian.Uint64(q[16:])}
	}
	return f, nil
}
