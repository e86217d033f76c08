// DomainName -- what can be a name in the DNS; for our own .cpp files only, it is not installed.
#pragma once

#include <optional>
#include <string>

namespace Net::SMTP {

// The name as it is asked for: labels of 1 to 63 visible ASCII characters, 253 together with the dots between (RFC 1035
// 2.3.4), U-labels of UTF-8 as their A-labels (RFC 5891 5, UTS #46 non-transitional). Empty when it can be none. A
// backslash is no part of a name, because master files mean something by it. std::bad_alloc.
std::optional<std::string> domain_name(const std::string& text);

}  // namespace Net::SMTP
