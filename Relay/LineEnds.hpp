// LineEnds -- how the lines of a message end where it is delivered for good.
#pragma once

namespace Net::SMTP {

// `lf`: each CRLF becomes LF, as programs of this system want it; a CR or LF that stands alone stays as it is. `crlf`:
// every octet stays as it came.
enum class LineEnds { lf, crlf };

}  // namespace Net::SMTP
