package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/klauspost/compress/zstd"
)

// A frame of ClickHouse's own compression (src/Compression/CompressedReadBufferBase.cpp): a checksum of 16 bytes, the method, the
// bytes of the frame from the method on, the bytes it holds, the compressed bytes. Numbers are little-endian.
const (
	frameSum    = 16
	frameHead   = frameSum + 1 + 4 + 4
	methodZSTD  = 0x90
	frameWrong  = "The body is not in ClickHouse's compression"
	frameTooBig = "The body holds more than a statement may have"
)

// unframed decodes frames that hold no more than a statement may have. What they say of that is checked before they are decoded:
// a few bytes may say, and of zstd give, gigabytes.
func unframed(framed []byte) ([]byte, error) {
	held := 0
	for rest := framed; len(rest) > 0; {
		if len(rest) < frameHead {
			return nil, wrong(frameWrong)
		}
		size, holds := int(binary.LittleEndian.Uint32(rest[frameSum+1:])), int(binary.LittleEndian.Uint32(rest[frameSum+5:]))
		if held += holds; held > maxStatement {
			return nil, wrong(frameTooBig)
		}
		if size < frameHead-frameSum || size > len(rest)-frameSum {
			return nil, wrong(frameWrong)
		}
		if rest[frameSum] == methodZSTD {
			if err := holdsNoMore(rest[frameHead:frameSum+size], holds); err != nil {
				return nil, err
			}
		}
		rest = rest[frameSum+size:]
	}
	said := make([]byte, held)
	if _, err := io.ReadFull(compress.NewReader(bytes.NewReader(framed)), said); err != nil {
		return nil, wrong(frameWrong + ": " + err.Error())
	}
	return said, nil
}

// holdsNoMore reads what zstd has packed no farther than its frame says.
func holdsNoMore(packed []byte, holds int) error {
	unzipped, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8<<20))
	if err != nil {
		return wrong(frameWrong)
	}
	defer unzipped.Close()
	switch n, err := io.CopyN(io.Discard, unzipped, int64(holds)+1); {
	case n > int64(holds):
		return wrong(frameTooBig)
	case !errors.Is(err, io.EOF):
		return wrong(frameWrong)
	}
	return nil
}
