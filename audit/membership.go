package audit

import (
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// MembershipSchema is the value of a Membership's field schema.
const MembershipSchema = "trimtab.membership/v1"

// Membership proves that an item is in a frozen dataset version, without
// showing the other items: the digest of the version is the root of the
// Merkle tree over the digests of its items in ascending order.
type Membership struct {
	Schema string `json:"schema"`
	// Version is the digest of the version: the root.
	Version string `json:"version"`
	// Items is the number of leaves, duplicates included.
	Items int64 `json:"items"`
	// Item is the digest of the item, Index that of its leaf, from 0.
	Item  string `json:"item"`
	Index int64  `json:"index"`
	// Path is the audit path, from the leaf up.
	Path []Hash `json:"path"`
}

// ProveMembership builds the proof for an item. leaves are the digests of the
// version's items in ascending order, duplicates included.
func ProveMembership(version, item string, leaves []string) (Membership, error) {
	m := Membership{Schema: MembershipSchema, Version: version, Item: item, Items: int64(len(leaves)), Index: -1}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			hashes[i] = stored[x]
		}
		return hashes, nil
	})
	for i, leaf := range leaves {
		raw, err := decodeDigest(leaf)
		if err != nil {
			return m, err
		}
		if leaf == item && m.Index < 0 {
			m.Index = int64(i)
		}
		hashes, err := tlog.StoredHashes(int64(i), raw, reader)
		if err != nil {
			return m, err
		}
		stored = append(stored, hashes...)
	}
	if m.Index < 0 {
		return m, fmt.Errorf("item %s is not in version %s", item, version)
	}
	path, err := tlog.ProveRecord(m.Items, m.Index, reader)
	for _, h := range path {
		m.Path = append(m.Path, Hash(h))
	}
	return m, err
}

// ParseMembership reads the JSON of a Membership.
func ParseMembership(raw []byte) (Membership, error) {
	var m Membership
	if err := unmarshalStrict(raw, &m); err != nil {
		return m, fmt.Errorf("read the proof: %w", err)
	}
	if m.Schema != MembershipSchema {
		return m, fmt.Errorf("the proof's schema is %.60q, not %s", m.Schema, MembershipSchema)
	}
	return m, nil
}

// Check returns why the membership does not hold, and nil if it does. Compare
// m.Version and m.Item with what you expect; Check cannot know it.
func (m Membership) Check() error {
	root, err := decodeDigest(m.Version)
	if err != nil {
		return err
	}
	leaf, err := decodeDigest(m.Item)
	if err != nil {
		return err
	}
	if m.Index < 0 || m.Index >= m.Items || len(m.Path) > maxPath {
		return fmt.Errorf("index %d with a path of %d hashes is impossible in a version of %d items",
			m.Index, len(m.Path), m.Items)
	}
	path := make(tlog.RecordProof, len(m.Path))
	for i, h := range m.Path {
		path[i] = tlog.Hash(h)
	}
	if err := tlog.CheckRecord(path, m.Items, tlog.Hash(Hash(root)), m.Index, tlog.RecordHash(leaf)); err != nil {
		return fmt.Errorf("item %s is not item %d of version %s", m.Item, m.Index, m.Version)
	}
	return nil
}

// decodeDigest returns the 32 bytes of "sha256:" and 64 digits.
func decodeDigest(d string) ([]byte, error) {
	raw, err := hex.DecodeString(strings.TrimPrefix(d, "sha256:"))
	if err != nil || len(raw) != len(Hash{}) {
		return nil, fmt.Errorf("%.80q is not a digest", d)
	}
	return raw, nil
}
