// metrics -- counts sessions and mails; Prometheus reads the numbers by HTTP, from Poco's server.
#include <Net/SMTP/Poco.hpp>
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/Counters.hpp>

#include "arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) try {
    const Arguments given(argc, argv, "Takes every mail, and serves its counters to Prometheus.",
                          {listening, {"--metrics", "HOST:PORT", "where HTTP is", "", "127.0.0.1:9125", is_address}});
    Server server(given.all("--listen"));
    const Counters counters;
    counters.listen(server.pipeline());
    const auto http = metrics(counters, given("--metrics"));
    std::printf("metrics on http://%s/metrics\n", http->socket().address().toString().c_str());
    ready(server);
    server.run([](Server::Client& client) { client.accept(); });
} catch (const Poco::Exception& e) {
    std::fprintf(stderr, "metrics: %s\n", e.displayText().c_str());
    return 1;
}
