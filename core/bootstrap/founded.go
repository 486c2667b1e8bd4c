package bootstrap

// Founded gives the identity of a member of a new cluster as the configuration alone
// tells it, without asking anybody. It is for data directories that are made before
// the member runs; the members of one cluster must be told the same list and token.
func (c *Config) Founded() (*Identity, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	list, err := c.list()
	if err != nil {
		return nil, err
	}
	mine, err := c.local(list)
	if err != nil {
		return nil, err
	}
	return &Identity{ID: mine.ID, Cluster: clusterID(list), Members: list, Begun: true}, nil
}
