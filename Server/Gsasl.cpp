#include "Gsasl.hpp"

#include <gsasl.h>

#include <algorithm>
#include <memory>
#include <new>

namespace Net::SMTP {

namespace {

constexpr std::size_t longest = 1024;

struct Free {
    void operator()(char* text) const { gsasl_free(text); }
};
using Text = std::unique_ptr<char, Free>;

bool printable_ascii(char c) { return c >= ' ' && c <= '~'; }

}  // namespace

std::optional<std::string> saslprep(std::string_view text) {
    if (text.empty() || text.size() > longest || text.find('\0') != text.npos) return std::nullopt;
    if (std::ranges::all_of(text, printable_ascii)) return std::string(text);  // which SASLprep leaves alone
    char* prepared = nullptr;
    int result = gsasl_saslprep(std::string(text).c_str(), GSASL_ALLOW_UNASSIGNED, &prepared, nullptr);
    Text owner(prepared);
    if (result == GSASL_MALLOC_ERROR) throw std::bad_alloc();
    if (result != GSASL_OK || !prepared || !*prepared) return std::nullopt;
    return std::string(prepared);
}

}  // namespace Net::SMTP
