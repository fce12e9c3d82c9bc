package openstack

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Page is the part of a list that a request asks for, and its order.
type Page struct {
	Limit  int    // the most items, never above the service's maximum
	Marker string // the id of the last item of the page before; empty: from the start
	Sort   []Sort // by the first key first; may be empty
	query  url.Values
	path   string
}

// Sort is a key to sort by.
type Sort struct {
	Key  string
	Desc bool
}

// ReadPage reads limit, marker, sort_key and sort_dir from a request's query, and
// Glance's and Neutron's sort=key:dir. A limit above most, which must be positive,
// means most, as does none. The error is a Fault 400.
func ReadPage(r *http.Request, most int) (Page, error) {
	q := r.URL.Query()
	p := Page{Limit: most, Marker: q.Get("marker"), query: q, path: r.URL.Path}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return Page{}, BadRequest("Invalid input for query parameters limit. Value: %s. It must be a whole number, 0 or more.", text)
		}
		if n > 0 || q.Has("limit") {
			p.Limit = min(n, most)
		}
	}
	dirs := q["sort_dir"]
	for i, key := range q["sort_key"] {
		dir := "desc" // of Nova and of Glance
		if len(dirs) > 0 {
			dir = dirs[min(i, len(dirs)-1)]
		}
		if err := p.sortBy(key, dir); err != nil {
			return Page{}, err
		}
	}
	if text := q.Get("sort"); text != "" && len(p.Sort) == 0 {
		for part := range strings.SplitSeq(text, ",") {
			key, dir, ok := strings.Cut(part, ":")
			if !ok {
				dir = "desc"
			}
			if err := p.sortBy(key, dir); err != nil {
				return Page{}, err
			}
		}
	}
	return p, nil
}

func (p *Page) sortBy(key, dir string) error {
	if dir = strings.ToLower(dir); dir != "asc" && dir != "desc" {
		return BadRequest("Invalid input for query parameters sort_dir. Value: %s. It is asc or desc.", dir)
	}
	p.Sort = append(p.Sort, Sort{key, dir == "desc"})
	return nil
}

// Compare orders two items by one key.
type Compare[T any] func(a, b T) int

// By compares what f gives of items.
func By[T any, K cmp.Ordered](f func(T) K) Compare[T] {
	return func(a, b T) int { return cmp.Compare(f(a), f(b)) }
}

// Cut sorts items, in place, by p's keys, those of the same rank staying in their
// order, and returns p's part of them. More says that items follow it. An unknown
// key and a marker that is no item's id are Faults 400.
func Cut[T any](items []T, p Page, id func(T) string, keys map[string]Compare[T]) (part []T, more bool, err error) {
	for _, s := range p.Sort {
		if keys[s.Key] == nil {
			return nil, false, BadRequest("Sort key supplied is invalid: %s", s.Key)
		}
	}
	if len(p.Sort) > 0 {
		slices.SortStableFunc(items, func(a, b T) int {
			for _, s := range p.Sort {
				if c := keys[s.Key](a, b); c != 0 && s.Desc {
					return -c
				} else if c != 0 {
					return c
				}
			}
			return 0
		})
	}
	if p.Marker != "" {
		i := slices.IndexFunc(items, func(item T) bool { return id(item) == p.Marker })
		if i < 0 {
			return nil, false, BadRequest("marker [%s] not found", p.Marker)
		}
		items = items[i+1:]
	}
	if len(items) <= p.Limit {
		return items, false, nil
	}
	return items[:p.Limit], p.Limit > 0, nil
}

// Link is one of a resource's links.
type Link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// Next is the path and query of the page that follows the one that ends with
// marker: to be put behind the service's base, or sent as it stands (Glance).
func (p Page) Next(marker string) string {
	q := url.Values{}
	for key, values := range p.query {
		q[key] = values
	}
	q.Set("marker", marker)
	return p.path + "?" + q.Encode()
}

// NextLinks is Nova's list of links to the page after the one that ends with
// marker.
func (p Page) NextLinks(r *http.Request, marker string) []Link {
	return []Link{{"next", BaseOf(r) + p.Next(marker)}}
}
