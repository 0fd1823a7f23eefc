package recorder

import (
	"encoding/binary"
	"hash/crc32"
	"os"

	"github.com/gnomon-scheduler/gnomon/core"
)

// SegmentFile is what the committer does with a file.
type SegmentFile = segmentFile

// CreateWith puts another disk under the recorder.
func (r *Recorder) CreateWith(create func(path string) (SegmentFile, error)) { r.create = create }

// CreateFile is the real disk.
func CreateFile(path string) (*os.File, error) {
	f, err := createFile(path)
	if err != nil {
		return nil, err
	}
	return f.(*os.File), nil
}

// HeadSize is the length of a segment's head.
const HeadSize = headSize

// DecodeRecords decodes the payload of one block.
func DecodeRecords(payload string) error {
	var d decoder
	return d.block(payload)
}

// Decoded gives the records of one block.
func Decoded(payload string) (core.Segment, error) {
	var d decoder
	err := d.block(payload)
	return d.seg, err
}

// SetFormat writes another format version into the head of a segment, with its checksum.
func SetFormat(data []byte, version uint32) {
	binary.LittleEndian.PutUint32(data[8:], version)
	binary.LittleEndian.PutUint32(data[56:], crc32.Checksum(data[:56], castagnoli))
}

// Dir is the spool's folder.
func (r *Recorder) Dir() string { return r.dir }
