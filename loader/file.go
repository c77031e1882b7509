package loader

// OpenFile maps one safetensors file of any name, with the checks of Open.
func OpenFile(path string) (*Checkpoint, error) {
	s, tensors, err := openShard(path, path)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{dir: path, shards: []*shard{s}, tensors: tensors, byName: map[string]*tensor{}}
	for _, t := range tensors {
		c.byName[t.Name] = t // a name given twice has not passed the header's check
	}
	return c, nil
}
