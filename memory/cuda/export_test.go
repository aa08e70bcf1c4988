package cuda

type (
	Driver = driver
	Handle = handle
)

func OpenWith(d Driver, gpu int, o Options) (*Device, error) { return open(d, gpu, o) }
