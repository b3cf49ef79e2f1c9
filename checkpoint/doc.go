// Package checkpoint keeps models and training states in a folder, by content.
// Everything that is read is verified against its digest first.
//
//	objects/<sha256>              one file of an artifact
//	artifacts/<sha256>            the manifest of an artifact: the lines "sha256 size path", sorted
//	states/<attempt>/<sha256>     a training state: one safetensors file, its step in the metadata
//	rollouts/<attempt>/<sha256>   rollouts on their way between workers: a safetensors file each
//	partial/                      files being written; what a crash leaves is removed after a day
//	databases/<id>                databases that reference files of the store (see RegisterDatabase)
//	lock                          flock that separates writers and the garbage collector
//
// The name of a file is the SHA-256 of its bytes, and the digest of an artifact
// is that of its manifest, so it is a function of the names and contents of its
// files alone. No file holds a time, an id or a name of a run, a host, or a path:
// the same training gives the same digests on any machine.
//
// # Durability
//
// A file is written under partial, synced, renamed to its place, and its folder
// synced; a manifest is written after its files. After a crash at any
// instruction, an artifact or a state is there whole or not at all. A writer that
// finds its file there already verifies it, and keeps it if it is undamaged.
//
// Nothing in the store says which files are in use. References are in the record,
// which is written after the file. Garbage collection asks the record through a
// GCPolicy, and spares files that are too young to have their reference yet.
//
// # Damage
//
// A file whose bytes differ from its digest is never returned: reading it is the
// error artifact_corrupt. A damaged state can be put out of the way by Quarantine,
// and training falls back to the state before it. Storing the same content again
// repairs an artifact.
//
// # Models
//
// A model is a Hugging Face folder of one of model's families: config.json,
// model.safetensors and the tokenizer's files (see SaveModel). Read accepts what
// other programs write in that format, and says in Folder.Notes what it converted
// or left out. A reward model is exported in another form than it is stored in,
// because Hugging Face's classes have no bias for the score; importing it gives the
// stored form again, bit for bit. ReadGGUF and WriteGGUF are for llama.cpp's files.
package checkpoint
