package runstore

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
)

// names is the dictionary of stages and of the heads of lineages. It only grows.
type names struct {
	mu     sync.RWMutex
	byName map[string]int64
	byID   map[int64]string
}

// maxNames bounds what lineages with ever new heads can add. A full dictionary
// stays full, so that a lineage is stored the same way for ever, which its being
// a key requires.
const maxNames = 4096

func (n *names) load(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT id, name FROM names")
	if err != nil {
		return fmt.Errorf("reading the names: %w", err)
	}
	defer rows.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byName == nil {
		n.byName, n.byID = map[string]int64{}, map[int64]string{}
	}
	for rows.Next() {
		var id int64
		var name string
		if err := rows.Scan(&id, &name); err != nil {
			return fmt.Errorf("reading the names: %w", err)
		}
		n.byName[name], n.byID[id] = id, name
	}
	return rows.Err()
}

func (n *names) id(name string) (id int64, ok, full bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	id, ok = n.byName[name]
	return id, ok, len(n.byName) >= maxNames
}

func (n *names) add(name string) (id int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id = int64(len(n.byName)) + 1
	n.byName[name], n.byID[id] = id, name
	return id
}

// name returns the name of an ID. A reader beside a run meets names that are
// newer than what it loaded, and loads them again.
func (s *Store) name(ctx context.Context, id int64) (string, error) {
	for range 2 {
		s.names.mu.RLock()
		name, ok := s.names.byID[id]
		s.names.mu.RUnlock()
		if ok {
			return name, nil
		}
		if err := s.names.load(ctx, s.db); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("the store does not hold name %d", id)
}
