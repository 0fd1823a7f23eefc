package recorder

import "os"

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

// Dir is the spool's folder.
func (r *Recorder) Dir() string { return r.dir }
