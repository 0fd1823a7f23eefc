package recorder

import (
	"encoding/binary"
	"time"
)

// batch is what one group commit writes: whole blocks in one buffer. While it is filled it is guarded by Recorder.mu;
// while it is written it belongs to the committer. Two of them take turns.
type batch struct {
	gen     uint64 // rises with every batch
	buf     []byte
	open    int    // offset of the block being filled; -1: none
	block   uint64 // number of that block over all batches: tells an attempt whether its origin is already in it
	origins uint32 // origins in it
	entries []entry
	records int
	lines   int
	inBlock struct{ records, lines uint32 }
	since   time.Time     // when the first record was put in
	done    chan struct{} // closed once the batch is on disk
}

func (b *batch) reset(gen uint64) {
	b.gen, b.buf, b.open, b.origins = gen, b.buf[:0], -1, 0
	b.entries, b.records, b.lines = b.entries[:0], 0, 0
	b.inBlock.records, b.inBlock.lines = 0, 0
	b.done = make(chan struct{})
}

// begin makes sure that a block with room is open. nextBlock numbers blocks over all batches.
func (b *batch) begin(nextBlock *uint64, now func() time.Time) {
	if b.open >= 0 {
		if len(b.buf)-b.open < blockHead+blockBytes {
			return
		}
		b.end()
	}
	if len(b.buf) == 0 {
		b.since = now()
	}
	*nextBlock++
	b.block, b.open, b.origins = *nextBlock, len(b.buf), 0
	b.buf = append(b.buf, make([]byte, blockHead)...)
}

// end closes the open block; what depends on the segment it goes to is filled in by stamp.
func (b *batch) end() {
	if b.open < 0 {
		return
	}
	h := b.buf[b.open:]
	binary.LittleEndian.PutUint32(h[8:], uint32(len(h)-blockHead))
	binary.LittleEndian.PutUint32(h[12:], b.inBlock.records)
	binary.LittleEndian.PutUint32(h[16:], b.inBlock.lines)
	b.records += int(b.inBlock.records)
	b.lines += int(b.inBlock.lines)
	b.inBlock.records, b.inBlock.lines = 0, 0
	b.open = -1
}

// stamp writes marker and checksum into every block and gives their number.
func (b *batch) stamp(marker uint64) (blocks int) {
	for at := 0; at < len(b.buf); blocks++ {
		n := blockHead + int(binary.LittleEndian.Uint32(b.buf[at+8:]))
		stampBlock(b.buf[at:at+n], marker)
		at += n
	}
	return blocks
}
