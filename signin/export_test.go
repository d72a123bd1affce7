package signin

// SetRoom bounds the queue of a log that has not been used yet.
func (l *Log) SetRoom(n int) { l.room = n }
