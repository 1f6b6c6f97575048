package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
)

const vidLength = 16

// boxLength reports whether a box of n bytes is well-formed: 28 + 32n, with n ≥ 1.
func boxLength(n int) bool { return n >= 60 && (n-28)%32 == 0 }

// itemInfo is both the info of the item's key and the associated data of its box.
func itemInfo(h header, name string) []byte {
	return join(domain("item"), h.commitment, lp(name))
}

// itemCipher is AES-256-GCM under K.
func itemCipher(dk, info []byte) cipher.AEAD {
	block, err := aes.NewCipher(expand(dk, info))
	if err != nil {
		panic(err) // K has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has blocks of 16 bytes
	}
	return aead
}

// openBox returns the identifier and the value of an item.
func openBox(dk []byte, h header, name string, box []byte) (vid, value []byte, err error) {
	info := itemInfo(h, name)
	padded, err := itemCipher(dk, info).Open(nil, box[:12], box[12:], info)
	if err != nil {
		return nil, nil, tampered
	}
	return unpad(padded)
}

// unpad removes the padding: the marker 80 in the last 32 bytes, and zeros after it.
func unpad(padded []byte) (vid, value []byte, err error) {
	content := bytes.TrimRight(padded, "\x00")
	end := len(content) - 1
	if end < vidLength || content[end] != 0x80 || end < len(padded)-32 {
		return nil, nil, tampered
	}
	return content[:vidLength], content[vidLength:end], nil
}

// sealBox creates the box of an item.
func sealBox(dk []byte, h header, name string, vid, value, nonce []byte) []byte {
	info := itemInfo(h, name)
	return join(nonce, itemCipher(dk, info).Seal(nil, nonce, pad(vid, value), info))
}

func pad(vid, value []byte) []byte {
	padded := join(vid, value, []byte{0x80})
	return append(padded, make([]byte, -len(padded)&31)...)
}
